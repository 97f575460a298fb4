"""Layered INI-like configuration with typed access and references."""

from inikit.config import Config, merge
from inikit.errors import ConfigError
from inikit.reader import loads
from inikit.values import parse_bool, parse_duration, parse_list
from inikit.writer import dumps

__all__ = ["Config", "ConfigError", "dumps", "loads", "merge", "parse_bool", "parse_duration", "parse_list"]
