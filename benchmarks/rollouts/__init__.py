"""Rollouts: tokens a second beside a raw HTTP client, steps whose tools wait, a run served by vLLM."""
