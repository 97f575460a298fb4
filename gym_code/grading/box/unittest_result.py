"""What the runners of `unittest` and of Django share: how cases end, and tests that must fail."""

from __future__ import annotations

import unittest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class MustFail:
    """For a case of any kind; a test that passes shows that assertions or bookkeeping were tampered with."""

    def test_equal(self: Any) -> None:
        """Equality of unequal values."""
        self.assertEqual(1, 2)

    def test_true(self: Any) -> None:
        """Truth of False."""
        self.assertTrue(False)

    def test_raises(self: Any) -> None:
        """An exception that does not come."""
        with self.assertRaises(ZeroDivisionError):
            pass

    def test_assert(self: Any) -> None:
        """A plain assertion."""
        raise AssertionError


class Result(unittest.TestResult):
    """Says of each test how it ended, once, when it stops."""

    def __init__(self, tell: Callable[[Any, str, Any], None]) -> None:
        super().__init__()
        self._tell = tell
        self._worst: tuple[str, Any] | None = None
        self.broken_fixtures = False
        """Whether something failed outside of a test: the fixtures of a class or module."""

    def startTest(self, test: Any) -> None:
        self._worst = None

    def stopTest(self, test: Any) -> None:
        if self._worst is not None:
            self._tell(test, *self._worst)

    def _note(self, name: str, error: Any = None) -> None:
        if self._worst is None or self._worst[0] == "passed":
            self._worst = (name, error)

    def addSuccess(self, test: Any) -> None:
        self._note("passed")

    def addFailure(self, test: Any, err: Any) -> None:
        self._note("failed", err)

    def addError(self, test: Any, err: Any) -> None:
        self.broken_fixtures = self.broken_fixtures or not isinstance(test, unittest.TestCase)
        self._note("error", err)

    def addSkip(self, test: Any, reason: str) -> None:
        self._note("skipped", reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        self._note("xfailed", err)

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._note("xpassed")

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self._note("failed" if issubclass(err[0], test.failureException) else "error", err)


def canary_outcome(base: type[unittest.TestCase], **attributes: Any) -> str:
    """`failed`, as it must be, only where none of the canary's tests passes as a case of this base.

    `error` where such a case cannot even be set up.
    """
    ends: list[str] = []
    names = ("test_equal", "test_true", "test_raises", "test_assert")
    metaclass: Any = type(base)
    canary = metaclass("Canary", (MustFail, base), {"__module__": __name__, **attributes})
    suite = unittest.TestSuite(canary(name) for name in names)
    result = Result(lambda _, name, __: ends.append(name))
    suite.run(result)
    if result.broken_fixtures and not ends:
        return "error"
    return "failed" if len(ends) == len(names) and {*ends} <= {"failed", "error"} else "passed"
