"""Gymnasium spaces for text and for tool calls."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from gymnasium import spaces

from gym_code.tools import TOOLS, Tool

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

_SURROGATES = range(0xD800, 0xE000)
_CODE_POINTS = 0x110000
_PATHS = (".", "README.md", "tests", "src", "setup.py", "pyproject.toml")
_COMMANDS = ("ls", "git status --short", "cat README.md", "grep -rn def . | sort | head", "python3 --version")
_PATTERNS = ("def ", "class ", "import", "test_*", "return")


class UnicodeText(spaces.Space[str]):
    """Every string of Unicode characters, of any length, astral planes included; half surrogates are none.

    Samples are short (at most `sample_chars` characters), half of them from all of Unicode and half ASCII.
    """

    def __init__(self, *, sample_chars: int = 32, seed: int | np.random.Generator | None = None) -> None:
        self.sample_chars = sample_chars
        super().__init__(dtype=str, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Text without a bound has no fixed array form."""
        return False

    def sample(self, mask: None = None, probability: None = None) -> str:
        """A random string; masks mean nothing here and must be None."""
        if mask is not None or probability is not None:
            raise ValueError("UnicodeText takes neither a mask nor probabilities")
        length = int(self.np_random.integers(self.sample_chars + 1))
        if self.np_random.random() < 0.5:
            return "".join(map(chr, self.np_random.integers(0x20, 0x7F, length)))
        points = self.np_random.integers(_CODE_POINTS - len(_SURROGATES), size=length)
        return "".join(chr(p if p < _SURROGATES.start else p + len(_SURROGATES)) for p in points.tolist())

    def contains(self, x: Any) -> bool:
        """Whether `x` is a string without half surrogates."""
        return isinstance(x, str) and not any("\ud800" <= char <= "\udfff" for char in x)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnicodeText) and other.sample_chars == self.sample_chars

    def __hash__(self) -> int:
        return hash(("UnicodeText", self.sample_chars))

    def __repr__(self) -> str:
        return f"UnicodeText(sample_chars={self.sample_chars})"


class ToolCallSpace(spaces.Space[dict[str, str]]):
    """A tool call as `{"name": text, "arguments": JSON text}`.

    Any two texts are in the space, because what a model says may be malformed and the env then explains;
    samples are valid calls of the given tools.
    """

    def __init__(
        self, tools: Mapping[str, Tool] = TOOLS, seed: int | np.random.Generator | None = None
    ) -> None:
        self.tools = dict(tools)  # spaces are copied, which a read-only mapping refuses
        self._text = UnicodeText()
        super().__init__(seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Text without a bound has no fixed array form."""
        return False

    def seed(self, seed: int | None = None) -> Any:
        """Seed the calls and the texts in them."""
        seeded = super().seed(seed)
        self._text.seed(int(self._np_random.integers(2**31)))
        return seeded

    def sample(self, mask: None = None, probability: None = None) -> dict[str, str]:
        """A random valid call; masks mean nothing here and must be None."""
        if mask is not None or probability is not None:
            raise ValueError("ToolCallSpace takes neither a mask nor probabilities")
        tool = self.tools[self._choice(tuple(self.tools))]
        arguments = {
            key: self._value(key, schema)
            for key, schema in tool.parameters["properties"].items()
            if key in tool.parameters["required"] or self.np_random.random() < 0.5
        }
        if "start" in arguments and "end" in arguments:
            arguments["end"] = arguments["start"] + arguments["end"]
        return {"name": tool.name, "arguments": json.dumps(arguments, ensure_ascii=False)}

    def contains(self, x: Any) -> bool:
        """Whether `x` has a name and arguments, both text, and nothing else."""
        return (
            isinstance(x, dict)
            and set(x) == {"name", "arguments"}
            and all(map(self._text.contains, x.values()))
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ToolCallSpace) and other.tools == self.tools

    def __hash__(self) -> int:
        return hash(("ToolCallSpace", *self.tools))

    def __repr__(self) -> str:
        return f"ToolCallSpace({', '.join(self.tools)})"

    def _value(self, key: str, schema: Mapping[str, Any]) -> Any:
        text = self._text.sample
        if schema["type"] in ("integer", "number"):
            return int(self.np_random.integers(1, 20))
        if schema["type"] == "array":
            return [text() or "test" for _ in range(int(self.np_random.integers(1, 3)))]
        if "enum" in schema:
            return self._choice(schema["enum"])
        # Sensible values for most samples, any text for the rest.
        if self.np_random.random() < 0.8:
            if key == "command":
                return self._choice((*_COMMANDS, f"echo {shlex.quote(text().replace(chr(0), ''))}"))
            if key in ("path", "pattern"):
                return self._choice(_PATHS if key == "path" else _PATTERNS)
        return text() or "text"

    def _choice(self, values: tuple[str, ...]) -> str:
        return values[int(self.np_random.integers(len(values)))]
