"""Our evaluation beside SWE-bench's own harness: the same verdicts (`parity`), and how many a minute."""
