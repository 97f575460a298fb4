"""The one error of the package."""


class ExprError(ValueError):
    """An expression that cannot be read or evaluated. `column` counts from 1; None where there is no place."""

    def __init__(self, message: str, column: int | None = None) -> None:
        self.message, self.column = message, column
        super().__init__(message if column is None else f"column {column}: {message}")
