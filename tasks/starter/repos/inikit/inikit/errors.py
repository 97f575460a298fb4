"""The one error of the package."""


class ConfigError(ValueError):
    """Configuration that cannot be read or used. `line` counts from 1; None where there is no line."""

    def __init__(self, message, line=None):
        self.message, self.line = message, line
        super().__init__(message if line is None else f"line {line}: {message}")
