"""A conversation that stays below a model's context window: what is old is left out, and that is recorded.

The system prompt, the task and the last turns stay. Of the turns before them, the results of tool calls go
first, the oldest first; then the turns go as a whole. What takes their place is a message too, and stands in
the trajectory before the messages of its turn: `shown` gives back, from the record alone, what the model saw.

    {"role": "tool", "tool_call_id": "c1", "content": "[...]"}     in place of the result of call c1
    {"role": "user", "content": "...", "turns_left_out": 3}        the task, with a note on turns 1 to 3
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agents.policy import Message
    from gym_code.types import JSON, ToolCall, Turn

KEEP_TURNS = 4
"""So many turns at the end are never left out."""
LOW_WATER = 0.7
"""What is left of the room: a change near the head of a prompt costs the server its cache, so it is rare."""
TURNS_LEFT_OUT = "turns_left_out"
"""Key of the message that replaces the first so many turns of the episode; it is not sent."""


class Conversation:
    """The messages as they are sent: the opening, then turns (what was said, and what came back)."""

    def __init__(self, messages: Iterable[Message] = (), *, keep_turns: int = KEEP_TURNS) -> None:
        self._opening: list[Message] = []
        self._turns: list[list[Message]] = []
        self._keep, self._left_out, self._task = keep_turns, 0, ""
        self._noted: set[str] = set()
        """Calls whose results were left out."""
        for message in messages:
            self.apply(message)

    @property
    def messages(self) -> list[Message]:
        """What is sent."""
        return [*self._opening, *(message for turn in self._turns for message in turn)]

    @property
    def characters(self) -> int:
        """The size of what is sent, as JSON."""
        return sum(map(_size, self.messages))

    def apply(self, message: Message) -> None:
        """Add a message, or put it in the place of what it replaces."""
        if TURNS_LEFT_OUT in message:
            gone = message[TURNS_LEFT_OUT] - self._left_out
            self._turns, self._left_out = self._turns[gone:], message[TURNS_LEFT_OUT]
            self._opening[-1] = {key: value for key, value in message.items() if key != TURNS_LEFT_OUT}
        elif message["role"] == "assistant":
            self._turns.append([message])
        elif not self._turns:
            self._opening.append(message)
            self._task = message["content"]
        elif (place := self._place(message)) is not None:
            place[0][place[1]] = message
        else:
            self._turns[-1].append(message)

    def old(self) -> Conversation:
        """The conversation without the turns that stay."""
        return Conversation([*self._opening, *(m for turn in self._old for m in turn)])

    def shorten_results(self, characters: int) -> list[Message]:
        """Leave out old results, the oldest first, until no more than so many characters are sent.

        Returns what took their place; nothing where no result is left that is longer than its note.
        """
        made: list[Message] = []
        spare = self.characters - characters
        for message in [message for turn in self._old for message in turn if message["role"] == "tool"]:
            note = {**message, "content": _result_note(message["content"])}
            saved = _size(message) - _size(note)
            if spare > 0 and saved > 0 and message["tool_call_id"] not in self._noted:
                self._noted.add(message["tool_call_id"])
                self.apply(note)
                made.append(note)
                spare -= saved
        return made

    def leave_out_turns(self, summary: str = "") -> list[Message]:
        """Leave out all turns but those that stay, with the model's own summary of them where there is one.

        Returns the message that took their place; nothing where no turn is left to go.
        """
        if not self._old:
            return []
        count = self._left_out + len(self._old)
        told = f"Your summary of them:\n{summary}" if summary else "What they did to the repository stands."
        note = f"[Turns 1 to {count} of your work were left out to save room. {told}]"
        content = f"{self._task}\n\n{note}"
        message = {**self._opening[-1], "content": content, TURNS_LEFT_OUT: count}
        self.apply(message)
        return [message]

    @property
    def _old(self) -> list[list[Message]]:
        return self._turns[: max(len(self._turns) - self._keep, 0)]

    def _place(self, message: Message) -> tuple[list[Message], int] | None:
        """Where the result of the same call stands."""
        for turn in self._turns:
            for number, other in enumerate(turn):
                if message["role"] == "tool" and other.get("tool_call_id") == message["tool_call_id"]:
                    return turn, number
        return None


def said(text: str, calls: Sequence[ToolCall]) -> Message:
    """What the model said, as it goes back to it: malformed arguments too as JSON, or servers refuse them."""
    message: dict[str, JSON] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call in calls
        ]
    return message


def shown(turns: Sequence[Turn]) -> list[Message]:
    """The messages that a chat model was sent before it said what the last of these turns holds."""
    conversation = Conversation()
    for number, turn in enumerate(turns):
        for message in turn.messages:
            conversation.apply(message)
        if number < len(turns) - 1:
            conversation.apply(said(turn.completion.text if turn.completion else "", turn.calls))
    return conversation.messages


def _result_note(content: str) -> str:
    return f"[This result of {len(content)} characters was left out to save room; call again if you need it.]"


def _size(message: Message) -> int:
    return len(json.dumps(message))
