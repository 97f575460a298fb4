"""Evaluation runs: predictions in, verdicts and reports out (docs/evaluation.md)."""
