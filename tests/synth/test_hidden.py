import dataclasses

import pytest
from synth_toy import TESTS, TOY, UNITTESTS, PlainBox

from gym_code.synth.covered import run_suite
from gym_code.synth.hidden import TestIndex, hide
from gym_code.synth.layout import find_layout
from gym_code.synth.removal import functions, stub
from gym_code.types import File, Outcome

PATH = "tests/test_shapes.py"
ENV = {"PYTHONPATH": "."}


@pytest.fixture
def layout():
    return find_layout(TOY)


def run(files, folder, layout, **options):
    return run_suite(PlainBox(files, folder), layout, timeout=60, **options)


def test_a_suite_says_what_each_test_did_where_it_is_and_what_it_covers(tmp_path, layout):
    found = functions("shapes/__init__.py", TOY["shapes/__init__.py"].content)
    seen = run(TOY, tmp_path, layout, functions=found)
    assert seen.complete
    assert seen.errors == {}
    assert set(seen.outcomes.values()) == {Outcome.PASSED}
    assert (seen.sites[f"{PATH}::TestSquare::test_grow"].file, seen.sites[f"{PATH}::test_two"].line) == (
        PATH,
        6,
    )
    covered = {key.rpartition("::")[2]: value for key, value in seen.covered.items()}
    assert covered["double"].at_import
    assert covered["area"].tests == (
        *(f"{PATH}::test_area[1-2-2]", f"{PATH}::test_area[3-3-9]", f"{PATH}::TestSquare::test_grow"),
    )
    assert not covered["area"].at_import
    assert covered["nothing"].tests == ()


def test_a_stubbed_tree_fails_only_where_the_body_matters(tmp_path, layout):
    area = functions("shapes/__init__.py", TOY["shapes/__init__.py"].content)[1]
    seen = run(stub(TOY, [area]), tmp_path, layout)
    failed = {name for name, outcome in seen.outcomes.items() if outcome is Outcome.FAILED}
    assert failed == {
        f"{PATH}::test_area[1-2-2]",
        f"{PATH}::test_area[3-3-9]",
        f"{PATH}::TestSquare::test_grow",
    }


def test_a_file_that_does_not_load_is_an_error_with_its_reason(tmp_path, layout):
    seen = run({**TOY, "shapes/__init__.py": File(content=b"import nowhere\n")}, tmp_path, layout)
    assert list(seen.errors) == [PATH]
    assert "No module named 'nowhere'" in seen.errors[PATH]


def test_unittest_ids_and_inherited_tests(tmp_path):
    files = {"shapes/__init__.py": TOY["shapes/__init__.py"], "tests/test_u.py": File(content=UNITTESTS)}
    layout = find_layout(files)
    assert layout.runner == "unittest"
    seen = run(files, tmp_path, layout)
    assert dict(seen.outcomes) == {
        "tests.test_u.SquareTest.test_name": Outcome.PASSED,
        "tests.test_u.SquareTest.test_grow": Outcome.PASSED,
        "tests.test_u.SquareTest.test_later": Outcome.SKIPPED,
    }
    index = TestIndex(files, layout, seen)
    hidden = hide(files, index, ["tests.test_u.SquareTest.test_name"])
    # The inherited test is written in Base, which keeps `make` and so its place.
    assert hidden.files["tests/test_u.py"].content == UNITTESTS.replace(
        b'    def test_name(self):\n        self.assertEqual(self.make(1).name, "square")\n\n', b""
    ).replace(b"make = Square\n\n\n", b"make = Square\n\n")


@pytest.fixture
def index(tmp_path, layout):
    return TestIndex(TOY, layout, run(TOY, tmp_path, layout))


def test_a_hidden_function_goes_with_decorators_and_its_comment(index):
    hidden = hide(TOY, index, [f"{PATH}::test_area[1-2-2]"])
    assert hidden.files[PATH].content == TESTS.replace(
        TESTS[TESTS.index(b"# sides") : TESTS.index(b"class TestSquare")], b""
    )
    # The other parameter set hides with its function.
    assert hidden.ids == {f"{PATH}::test_area[1-2-2]", f"{PATH}::test_area[3-3-9]"}
    assert hidden.touched == (PATH,)


def test_an_emptied_class_goes_and_one_with_more_in_it_stays(index):
    hidden = hide(TOY, index, [f"{PATH}::TestSquare::test_grow", f"{PATH}::TestHalves::test_halves"])
    left = hidden.files[PATH].content
    assert b"TestSquare" not in left
    assert b"class TestHalves:\n    side = 4\n\ndef test_name" in left


def test_an_emptied_class_that_others_name_keeps_a_pass(tmp_path, layout):
    files = {**TOY, PATH: File(content=TESTS + b"\n\nALIAS = TestSquare\n")}
    index = TestIndex(files, layout, run(files, tmp_path, layout))
    hidden = hide(files, index, [f"{PATH}::TestSquare::test_grow"])
    assert b"class TestSquare:\n    pass\n" in hidden.files[PATH].content


def test_a_file_with_only_imports_left_is_deleted(tmp_path, layout):
    files = {**TOY, PATH: File(content=TESTS.replace(b"    side = 4\n\n", b"").replace(b"self.side", b"4"))}
    index = TestIndex(files, layout, run(files, tmp_path, layout))
    hidden = hide(files, index, index.sites)
    assert PATH not in hidden.files
    assert hidden.ids == set(index.sites)


def test_an_id_whose_function_is_not_in_the_tree_cannot_hide(index, tmp_path, layout):
    seen = run(TOY, tmp_path, layout)
    strange = dataclasses.replace(
        seen,
        outcomes={f"{PATH}::test_made_at_run_time": Outcome.PASSED},
        sites={
            f"{PATH}::test_made_at_run_time": dataclasses.replace(seen.sites[f"{PATH}::test_two"], file=None)
        },
    )
    assert hide(TOY, TestIndex(TOY, layout, strange), [f"{PATH}::test_made_at_run_time"]) is None
