"""References between values: `${key}` and `${section.key}`."""

import re

from inikit.errors import ConfigError

_REFERENCE = re.compile(r"\$(?:\$|\{([^{}]*)\})")


def expand(config, section, key):
    """The value of a key with its references replaced by the (expanded) values they name.

    `${key}` looks in the same section, `${section.key}` in another one (split at the first dot), and `$$` stands
    for one dollar. Raises ConfigError for a reference that names nothing, or that leads back to itself.
    """
    return _expand(config, section, key, [])


def _expand(config, section, key, path):
    here = f"{section}.{key}"
    if here in path:
        raise ConfigError("circular reference: " + " -> ".join([*path[path.index(here) :], here]))
    value = config.raw(section, key)
    if value is None:
        raise ConfigError(f"{path[-1]} refers to unknown {here}")

    def replacement(match):
        name = match.group(1)
        if name is None:
            return "$"
        other_section, dot, other_key = name.partition(".")
        target = (other_section, other_key) if dot else (section, name)
        return _expand(config, *target, [*path, here])

    return _REFERENCE.sub(replacement, value)
