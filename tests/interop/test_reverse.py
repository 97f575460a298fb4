"""A diff turned round takes back what the diff did; what cannot be turned round is refused."""

from __future__ import annotations

import difflib

import pytest
from family_rows import BUG, FIX
from hypothesis import given
from hypothesis import strategies as st

from gym_code.diff import parse_patch
from gym_code.errors import PatchError
from gym_code.interop.reverse import reverse_diff
from gym_code.patch import apply_patch
from gym_code.types import File


def test_a_bug_turned_round_is_its_fix() -> None:
    assert reverse_diff(BUG) == FIX
    assert reverse_diff(FIX) == BUG


def test_new_moved_and_changed_files() -> None:
    diff = (
        "diff --git a/new.py b/new.py\nnew file mode 100644\nindex 0000000..78981\n"
        "--- /dev/null\n+++ b/new.py\n"
        "@@ -0,0 +1 @@\n+a\n\\ No newline at end of file\n"
        "diff --git a/old name b/new name\nsimilarity index 100%\nrename from old name\nrename to new name\n"
        "diff --git a/run b/run\nold mode 100644\nnew mode 100755\n"
    )
    assert reverse_diff(diff) == (
        "diff --git a/new.py b/new.py\ndeleted file mode 100644\nindex 78981..0000000\n"
        "--- a/new.py\n+++ /dev/null\n"
        "@@ -1 +0,0 @@\n-a\n\\ No newline at end of file\n"
        "diff --git a/new name b/old name\nsimilarity index 100%\nrename from new name\nrename to old name\n"
        "diff --git a/run b/run\nold mode 100755\nnew mode 100644\n"
    )


@pytest.mark.parametrize(
    "diff",
    [
        "no diff at all",
        "diff --git a/b b/b\nnew file mode 100644\nGIT binary patch\nliteral 1\nIcmZPo0000200961\n\n",
        "diff --git a/x b/y\nsimilarity index 100%\ncopy from x\ncopy to y\n",
    ],
)
def test_what_cannot_be_turned_round_is_refused(diff: str) -> None:
    with pytest.raises(PatchError):
        reverse_diff(diff)


LINES = st.lists(st.sampled_from(["a\n", "b\r\n", "-- c\n", "++ d\n", "\n", "@@ -1 +1 @@\n"]), max_size=12)


@given(LINES, LINES, st.booleans(), st.booleans())
def test_there_and_back_is_where_we_were(
    before: list[str], after: list[str], cut_before: bool, cut_after: bool
) -> None:
    texts = []
    for lines, cut in ((before, cut_before), (after, cut_after)):
        texts.append([*lines, "end"] if cut else lines)
    diff = "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        for line in difflib.unified_diff(texts[0], texts[1], "a/f", "b/f", n=1)
    )
    if not diff:
        return
    first, last = (File(content="".join(lines).encode()) for lines in texts)
    turned = reverse_diff(diff)
    assert apply_patch({"f": first}, diff.encode())["f"] == last
    assert apply_patch({"f": last}, turned.encode())["f"] == first
    assert parse_patch(reverse_diff(turned).encode()) == parse_patch(diff.encode())
