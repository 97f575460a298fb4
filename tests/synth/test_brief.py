import pytest
from synth_toy import SHAPES, TOY

from gym_code.synth import brief, leaks
from gym_code.synth.layout import find_layout
from gym_code.synth.removal import body, functions, stub
from gym_code.types import File

PATH = "shapes/__init__.py"
FOUND = {function.qualname: function for function in functions(PATH, SHAPES)}


def written(name, files=TOY, hidden=3):
    start = stub(files, [FOUND[name]])
    return brief.statement(FOUND[name], start=start, full=files, layout=find_layout(files), hidden=hidden)


def test_the_statement_says_where_what_and_when_it_is_done():
    text = written("area")
    assert text.startswith("# Write the missing body of `shapes.area`\n")
    assert "`area` in `shapes/__init__.py` has lost its body (line 18)" in text
    assert 'def area(w, h):\n    """The area of a rectangle.\n\n    Raises ValueError' in text
    assert (
        "## What `docs/index.rst` says\n\n> .. function:: area(w, h)\n>\n>    Width times height, in units.\n"
        in text
    )
    assert "- It may raise `ValueError`." in text
    assert "- Code that calls `area`: `Square.grow` (`shapes/__init__.py`)." in text
    assert "- 3 hidden tests of this behaviour" in text


@pytest.mark.parametrize("name", list(FOUND))
def test_the_statement_never_quotes_the_body_or_names_a_hidden_test(name):
    text = written(name, hidden=1)
    assert brief.quotes(text, FOUND[name], body(SHAPES, FOUND[name])) is None
    assert "test_" not in text
    assert "one hidden test" in text


def test_a_document_that_shows_the_code_loses_those_lines():
    shown = b".. function:: area(w, h)\n\n   Width times height::\n\n       return w * h\n"
    text = written("area", {**TOY, "docs/index.rst": File(content=shown)})
    assert "Width times height" in text
    assert "return w * h" not in text


def test_kinds_of_function_are_told_in_words():
    assert "It is a generator." in written("Square.halves")
    assert "The class reads attributes of `self` that nothing sets now: `side`." in written("Square.__init__")
    assert "It returns nothing" in written("Square.__init__")
    assert 'class Square:\n    """A square."""\n\n    def grow(self, by=1):\n        ...' in written(
        "Square.grow"
    )


@pytest.mark.parametrize(
    "call",
    ["warnings.warn('old', DeprecationWarning)", "warn('old', stacklevel=2, category=DeprecationWarning)"],
)
def test_the_kind_of_a_warning_is_told_and_not_its_words(call):
    content = f"def f(x):\n    {call}\n    return x\n".encode()
    (function,) = functions(PATH, content)
    files = {**TOY, PATH: File(content=content)}
    text = brief.statement(
        function, start=stub(files, [function]), full=files, layout=find_layout(files), hidden=1
    )
    assert "- It may warn: `DeprecationWarning`." in text
    assert "old" not in text


def test_a_quoted_line_is_found():
    assert brief.quotes("before\n> return w * h\nafter", FOUND["area"], b"    return w * h") == "return w * h"


def leak(extra, name="area"):
    full = {**TOY, **extra}
    return leaks.in_tree(stub(full, [FOUND[name]]), full, [FOUND[name]])


def test_the_leak_scan_finds_copies_and_leftovers():
    assert leak({}) is None
    assert leak({"old/shapes.txt": File(content=SHAPES)}) == "old/shapes.txt shows the body of area"
    doctest = b'>>> if w < 0 or h < 0:\n...     raise ValueError("a side is negative")\n>>> return w * h\n'
    assert leak({"docs/how.rst": File(content=doctest)}) == "docs/how.rst shows the body of area"
    assert leak({"__pycache__/shapes.pyc": File(content=b"x")}) == (
        "__pycache__/shapes.pyc is a leftover of a build or a cache"
    )


def test_code_that_is_only_similar_is_no_leak():
    near = b"def volume(w, h, d):\n    if w < 0 or h < 0:\n        raise ValueError('no')\n    return w\n"
    assert leak({"shapes/solid.py": File(content=near)}) is None


def test_the_package_itself_among_the_pins_is_found():
    assert leaks.among_packages("Typing_Extensions", ["pytest==9.0", "typing-extensions==4.1"]) == (
        "typing-extensions==4.1"
    )
    assert leaks.among_packages("cachetools", ["pytest==9.0"]) is None
