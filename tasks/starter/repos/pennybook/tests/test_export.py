import json

import pytest

from pennybook import load_journal
from pennybook.cli import main

JOURNAL = """\
2024-01-05 Café "Zur Post", lunch
  expenses:food  12.5
  expenses:tips  0.50
  assets:cash
2024-01-02 Opening
  assets:cash  100
  equity
"""

CSV = """\
date,description,account,amount
2024-01-02,Opening,assets:cash,100.00
2024-01-02,Opening,equity,-100.00
2024-01-05,"Café ""Zur Post"", lunch",expenses:food,12.50
2024-01-05,"Café ""Zur Post"", lunch",expenses:tips,0.50
2024-01-05,"Café ""Zur Post"", lunch",assets:cash,-13.00
"""


@pytest.fixture
def run(tmp_path, capsys):
    path = tmp_path / "journal.txt"
    path.write_text(JOURNAL, encoding="utf-8")

    def call(*arguments):
        assert main([str(path), *arguments]) == 0
        return capsys.readouterr().out

    return call


def test_csv():
    from pennybook.export import to_csv

    assert to_csv(load_journal(JOURNAL)) == CSV


def test_csv_of_nothing():
    from pennybook.export import to_csv

    assert to_csv([]) == "date,description,account,amount\n"


def test_json():
    from pennybook.export import to_json

    assert json.loads(to_json(load_journal(JOURNAL))) == [
        {
            "date": "2024-01-02",
            "description": "Opening",
            "postings": [{"account": "assets:cash", "cents": 10000}, {"account": "equity", "cents": -10000}],
        },
        {
            "date": "2024-01-05",
            "description": 'Café "Zur Post", lunch',
            "postings": [
                {"account": "expenses:food", "cents": 1250},
                {"account": "expenses:tips", "cents": 50},
                {"account": "assets:cash", "cents": -1300},
            ],
        },
    ]


def test_json_layout():
    from pennybook.export import to_json

    assert to_json([]) == "[]\n"
    assert to_json(load_journal(JOURNAL)).splitlines()[:3] == ["[", "  {", '    "date": "2024-01-02",']
    assert ("Café" in to_json(load_journal(JOURNAL))) is True


def test_command_line_writes_csv_unless_told_otherwise(run):
    assert run("export") == CSV
    assert run("export", "--format", "csv") == CSV


def test_command_line_writes_json(run):
    assert len(json.loads(run("export", "--format", "json"))) == 2
    assert run("export", "--format", "json").endswith("\n]\n") is True


def test_unknown_formats_are_refused(run, capsys):
    with pytest.raises(SystemExit) as caught:
        run("export", "--format", "xml")
    assert caught.value.code == 2
    assert "invalid choice: 'xml'" in capsys.readouterr().err
