"""Other people's formats: data sets and predictions of SWE-bench read, and rows written, without loss."""

from __future__ import annotations

from gym_code.interop.dataset import Row, read_rows
from gym_code.interop.instance import Instance, read_instances
from gym_code.interop.predictions import Prediction, read_predictions
from gym_code.interop.problems import DataError
from gym_code.interop.swebench import ImportReport, export_rows, import_rows

__all__ = [
    "DataError",
    "ImportReport",
    "Instance",
    "Prediction",
    "Row",
    "export_rows",
    "import_rows",
    "read_instances",
    "read_predictions",
    "read_rows",
]
