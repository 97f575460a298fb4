"""Text to a `Config`."""

from inikit.config import Config
from inikit.errors import ConfigError

_COMMENT_SIGNS = "#;"


def loads(text):
    """Read a configuration from text. Raises ConfigError with the number of the offending line."""
    sections = {}
    section = key = None
    for number, raw in enumerate(text.splitlines(), start=1):
        line = _without_comment(raw, number)
        if not line.strip():
            continue
        if line[0] in " \t":
            if key is None:
                raise ConfigError("nothing to continue", number)
            section[key] += "\n" + _unquoted(line.strip(), number)
        elif line.startswith("["):
            section, key = _open_section(line.strip(), sections, number), None
        else:
            key = _add_entry(line, section, number)
    return Config(sections)


def _open_section(line, sections, number):
    name = line[1:-1].strip()
    if not line.endswith("]") or not name:
        raise ConfigError(f"not a section header: {line}", number)
    if name in sections:
        raise ConfigError(f"section {name!r} occurs twice", number)
    sections[name] = {}
    return sections[name]


def _add_entry(line, section, number):
    key, equals, value = line.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"expected 'key = value', found {line.strip()!r}", number)
    if section is None:
        raise ConfigError(f"key {key!r} stands before the first section", number)
    if key in section:
        raise ConfigError(f"key {key!r} occurs twice", number)
    section[key] = _unquoted(value.strip(), number)
    return key


def _without_comment(line, number):
    """The line up to the first comment sign that starts it or follows white space outside quotes."""
    quoted = False
    for index, char in enumerate(line):
        if char == '"':
            quoted = not quoted
        elif char in _COMMENT_SIGNS and not quoted and (index == 0 or line[index - 1] in " \t"):
            return line[:index]
    if quoted:
        raise ConfigError("a quote is never closed", number)
    return line


def _unquoted(value, number):
    if not value.startswith('"'):
        return value
    if len(value) < 2 or not value.endswith('"') or '"' in value[1:-1]:
        raise ConfigError("text outside the quotes", number)
    return value[1:-1]
