from pathlib import Path

from pennybook.cli import main

EXAMPLE = Path(__file__).parent.parent / "examples" / "home.txt"


def test_the_example_of_the_readme(capsys):
    assert main([str(EXAMPLE), "balance"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "     958.70  assets",
        "     100.00    bank",
        "     858.70    cash",
    ]
