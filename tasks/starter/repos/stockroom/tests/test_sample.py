import csv
from pathlib import Path

SAMPLE = Path(__file__).parent.parent / "data" / "sample.csv"


def rows():
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_header():
    assert rows()[0] == ["date", "sku", "kind", "quantity", "price"]


def test_movements():
    assert [row[1] for row in rows()[1:]] == ["bolt", "nut", "bolt", "bolt", "bolt", "nut", "glue", "glue"]
