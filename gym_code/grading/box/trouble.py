"""What went wrong, in a line that says where in the tree."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def describe(error: Any, workdir: str) -> str:
    """`path:line: Type: text` of an exception triple, or a reason as it is."""
    if error is None or isinstance(error, str):
        return error or ""
    kind, value, trace = error
    where = ""
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if path.startswith(workdir + os.sep):
            where = f"{path[len(workdir) + 1 :]}:{trace.tb_lineno}: "
        trace = trace.tb_next
    try:
        text = str(value)
    except Exception as failure:  # The boundary: `__str__` is the tree's code.
        text = f"<no text: {type(failure).__name__}>"
    name = str(kind.__name__)
    return f"{where}{name}: {text}" if text else where + name
