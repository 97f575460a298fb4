import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "data" / "sample.csv"


@pytest.fixture
def run(capsys, tmp_path):
    def call(*arguments, rows=None):
        from stockroom.cli import main

        path = SAMPLE
        if rows is not None:
            path = tmp_path / "movements.csv"
            path.write_text("date,sku,kind,quantity,price\n" + "".join(row + "\n" for row in rows))
        status = main([str(path), *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_list(run):
    assert run("list") == (0, "bolt      30\nnut       36\n", "")


def test_list_pads_to_the_longest_printed_name(run):
    rows = [
        "2024-01-01,a,in,1,1",
        "2024-01-01,longer,in,2000000,1",
        "2024-01-01,much longer,in,1,1",
        "2024-01-01,much longer,out,1,",
    ]
    assert run("list", rows=rows)[1] == "a            1\nlonger  2000000\n"


def test_list_of_nothing(run):
    assert run("list", rows=[]) == (0, "", "")


def test_value(run):
    assert run("value") == (0, "bolt         9.00\nnut          3.60\ntotal       12.60\n", "")


def test_value_of_nothing(run):
    assert run("value", rows=[])[1] == "total        0.00\n"


def test_value_pads_to_long_names(run):
    rows = ["2024-01-01,washers,in,3,1.05"]
    assert run("value", rows=rows)[1] == "washers        3.15\ntotal          3.15\n"


def test_low(run):
    assert run("low")[1] == "glue       0\n"
    assert run("low", "--below", "36")[1] == "glue       0\nbolt      30\n"
    assert run("low", "--below", "0")[1] == ""


def test_low_orders_by_quantity_then_name(run):
    rows = [f"2024-01-01,{sku},in,{count},1" for sku, count in (("d", 3), ("a", 7), ("c", 3), ("b", 10))]
    assert run("low", rows=rows)[1] == "c       3\nd       3\na       7\n"


def test_history(run):
    assert (
        run("history", "nut")[1] == "2024-03-01  in        +40      40\n2024-03-09  count      -4      36\n"
    )
    assert run("history", "bolt")[1].splitlines()[3] == "2024-03-08  out       -90      30"


def test_history_of_a_count_that_agrees(run):
    rows = ["2024-01-01,a,in,5,1", "2024-01-02,a,count,5,", "2024-01-03,a,count,9,"]
    assert run("history", "a", rows=rows)[1].splitlines()[1:] == [
        "2024-01-02  count      +0       5",
        "2024-01-03  count      +4       9",
    ]


def test_history_of_an_unknown_article(run):
    assert run("history", "screw") == (2, "", "stockroom: unknown sku: 'screw'\n")


def test_mistakes_in_the_file(run):
    status, out, err = run("list", rows=["2024-01-01,a,out,1,"])
    assert (status, out) == (2, "")
    assert err == "stockroom: line 2: only 0 of 'a' in stock, 1 wanted\n"


def test_a_file_that_is_not_there(tmp_path, capsys):
    from stockroom.cli import main

    assert main([str(tmp_path / "none.csv"), "list"]) == 2
    assert capsys.readouterr().err.startswith("stockroom: ") is True


def test_wrong_arguments():
    from stockroom.cli import main

    with pytest.raises(SystemExit) as caught:
        main([str(SAMPLE), "sell"])
    assert caught.value.code == 2


def test_as_a_module():
    command = [sys.executable, "-m", "stockroom", str(SAMPLE), "list"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "bolt      30\nnut       36\n")
