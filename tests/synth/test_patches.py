import pytest
from hypothesis import given
from hypothesis import strategies as st

from gym_code.errors import TaskError
from gym_code.patch import apply_patch, with_changes
from gym_code.synth.patches import git_patch
from gym_code.types import File

LINES = st.lists(
    st.sampled_from([b"a\n", b"b\r\n", b"\n", b"\x0c\n", "ä\n".encode(), b"\xff\n", b"--- a\n"]), max_size=8
)
TREES = st.dictionaries(
    st.sampled_from(["m.py", "a/b.py", "a/c d.py"]),
    st.builds(lambda lines, end: File(content=b"".join(lines) + end), LINES, st.sampled_from([b"", b"end"])),
)


@given(TREES, TREES)
def test_a_patch_makes_one_tree_of_the_other_and_back(before, after):
    patch = git_patch(before, after)
    assert with_changes(before, apply_patch(before, patch)) == after
    assert with_changes(after, apply_patch(after, patch, reverse=True)) == before


def test_the_text_is_gits():
    before, after = {"m.py": File(content=b"a\nb\n")}, {"m.py": File(content=b"a\nc")}
    assert git_patch(before, after) == (
        b"diff --git a/m.py b/m.py\n--- a/m.py\n+++ b/m.py\n@@ -1,2 +1,2 @@\n"
        b" a\n-b\n+c\n\\ No newline at end of file\n"
    )


@pytest.mark.parametrize("other", [File(content=b"\0"), File(content=b"a", executable=True), File(link="x")])
def test_what_no_text_patch_can_say_is_refused(other):
    with pytest.raises(TaskError, match=r"^m\.py: cannot write this change"):
        git_patch({"m.py": File(content=b"a")}, {"m.py": other})
