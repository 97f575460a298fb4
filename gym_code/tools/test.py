"""test: run the visible tests of the task."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from gym_code.errors import ToolCallError
from gym_code.tools.spec import Tool, ToolContext
from gym_code.tools.text import clip, one_line, valid_unicode, with_note
from gym_code.types import JSON, Outcome, TestReport, ordered_unique

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MESSAGE_CHARS = 200
_SHOWN_FAILURES = 20


def _test(context: ToolContext, arguments: Mapping[str, JSON]) -> str:
    # Imported here so that reading a tool's schema does not load the graders.
    from gym_code.grading.visible import run_tests

    visible = context.task.visible_tests
    if not visible:
        raise ToolCallError("this task has no visible tests; write your own and run them with bash.")
    ids = _chosen(visible, arguments["ids"]) if "ids" in arguments else visible
    report, messages = run_tests(context.sandbox, context.task, ids)
    return _summary(report, messages, context.task.limits.output_bytes)


def _chosen(visible: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """The visible tests meant: each wanted id is one, or the file, class or function that holds some."""
    chosen: list[str] = []
    for word in wanted:
        found = [
            test for test in visible if test == word or test.startswith((f"{word}::", f"{word}[", f"{word}."))
        ]
        if not found:
            near = difflib.get_close_matches(word[:300], visible, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise ToolCallError(f"no visible test is called {one_line(word, _MESSAGE_CHARS)}{hint}")
        chosen += found
    return ordered_unique(chosen)


def _summary(report: TestReport, messages: Mapping[str, str], budget: int) -> str:
    failed = [test for test, outcome in report.outcomes.items() if outcome is not Outcome.PASSED]
    lines = [f"{len(report.outcomes) - len(failed)} passed, {len(failed)} failed"]
    if whole_run := messages.get(""):
        lines.append(f"[{one_line(whole_run, _MESSAGE_CHARS)}]")
    for test in failed[:_SHOWN_FAILURES]:
        message = one_line(messages.get(test, ""), _MESSAGE_CHARS) or report.outcomes[test].value
        lines.append(f"FAILED {test}: {message}")
    if len(failed) > _SHOWN_FAILURES:
        lines.append(f"[{len(failed) - _SHOWN_FAILURES} more failed; choose some with ids to see them]")
    text = valid_unicode("\n".join(lines))
    return text if len(text.encode()) <= budget else with_note(clip(text, budget), "[cut]")


TEST = Tool(
    name="test",
    description="Run the visible tests and report which fail and why. Hidden tests decide the reward.",
    parameters={
        "type": "object",
        "properties": {
            "ids": {
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "minItems": 1,
                "description": "Test ids, or files or classes of tests; default: all visible tests.",
            },
        },
        "required": [],
        "additionalProperties": False,
    },
    run=_test,
)
