"""Sections of keys and values, typed access, references and layers."""

from inikit.errors import ConfigError
from inikit.references import expand
from inikit.values import parse_bool, parse_duration, parse_list

_MISSING = object()


class Config:
    """Sections by name, each with text values by key. Reading never changes it."""

    def __init__(self, sections=None):
        self._sections = {name: dict(values) for name, values in (sections or {}).items()}

    def __eq__(self, other):
        return isinstance(other, Config) and self._sections == other._sections

    def __repr__(self):
        return f"Config({self._sections!r})"

    def sections(self):
        """The names of all sections, in order."""
        return list(self._sections)

    def keys(self, section):
        """The keys of a section, in order; none for an unknown section."""
        return list(self._sections.get(section, {}))

    def raw(self, section, key):
        """The value as written, None when there is none."""
        return self._sections.get(section, {}).get(key)

    def get(self, section, key, default=_MISSING):
        """The value with its references expanded; without a default, raises ConfigError when there is none."""
        if self.raw(section, key) is None:
            if default is _MISSING:
                raise ConfigError(f"no {section}.{key}")
            return default
        return expand(self, section, key)

    def get_int(self, section, key, default=_MISSING):
        """The value as a whole number; underscores may group digits."""
        return self._typed(section, key, default, int, "a whole number")

    def get_bool(self, section, key, default=_MISSING):
        """The value as a truth value, see `parse_bool`."""
        return self._typed(section, key, default, parse_bool, "a truth value")

    def get_list(self, section, key, default=_MISSING):
        """The value as a list of texts, see `parse_list`."""
        return self._typed(section, key, default, parse_list, "a list")

    def get_duration(self, section, key, default=_MISSING):
        """The value as a number of seconds, see `parse_duration`."""
        return self._typed(section, key, default, parse_duration, "a duration")

    def _typed(self, section, key, default, convert, what):
        text = self.get(section, key, default)
        if not isinstance(text, str) or text is default:
            return text
        try:
            return convert(text)
        except ValueError:
            raise ConfigError(f"{section}.{key} is not {what}: {text!r}") from None


def merge(*layers):
    """One configuration from several: later layers win, key by key; an empty value removes the key."""
    merged = {}
    for layer in layers:
        for section in layer.sections():
            target = merged.setdefault(section, {})
            for key in layer.keys(section):
                value = layer.raw(section, key)
                if value:
                    target[key] = value
                else:
                    target.pop(key, None)
    return Config(merged)
