"""The report of an evaluation: one summary, shown as JSON, Markdown and a page."""

from __future__ import annotations

from gym_code.evaluate.report.summary import summarise
from gym_code.evaluate.report.write import write_reports

__all__ = ["summarise", "write_reports"]
