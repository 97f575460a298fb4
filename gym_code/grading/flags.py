"""What travels with a verdict beside yes and no.

| flag | meaning | effect |
|---|---|---|
| patch-unreadable | the patch is no diff, or is cut short | 0 |
| patch-unsafe-path | it names a path in `.git`, an absolute one, one with `..`, or one beyond a link | 0 |
| patch-does-not-apply | its lines do not stand in the start tree | 0 |
| tests-restored | the agent changed files of graded tests or beside them; put back before grading | none |
| startup-restored | the agent changed runner or interpreter start-up files; put back before grading | none |
| bytecode-dropped | compiled Python in the patch; left out | none |
| shadow-dropped | a file that would be imported in place of a test module; left out | none |
| timed-out | the tests did not end in time; the gold patch did | 0 |
| out-of-memory | the tests ran out of memory; the gold patch did not | 0 |
| crashed | the test process ended before its tests did; with the gold patch it does not | 0 |
| nothing-reported | not one test reported; with the gold patch they do | 0 |
| duplicate-report | a test reported twice: counted as failed | 0 |
| channel-noise | something else wrote to the private channel; it was ignored | none |
| runner-tampered | a test that must fail passed, or never ran: no outcome of this run is believed | 0 |
| flaky-recovered | a test failed among the others and passed alone in a clean box: counted as passed | none |
| expected-failure | a FAIL_TO_PASS test failed as expected, which the rule in force takes for passed | none |
| sandbox-fault | the sandbox failed twice, in two boxes | ungraded |
| gold-failed | the gold patch failed under the same conditions | ungraded |
"""

from __future__ import annotations

PATCH_UNREADABLE = "patch-unreadable"
PATCH_UNSAFE_PATH = "patch-unsafe-path"
PATCH_DOES_NOT_APPLY = "patch-does-not-apply"
TESTS_RESTORED = "tests-restored"
STARTUP_RESTORED = "startup-restored"
BYTECODE_DROPPED = "bytecode-dropped"
SHADOW_DROPPED = "shadow-dropped"
TIMED_OUT = "timed-out"
OUT_OF_MEMORY = "out-of-memory"
CRASHED = "crashed"
NOTHING_REPORTED = "nothing-reported"
DUPLICATE_REPORT = "duplicate-report"
CHANNEL_NOISE = "channel-noise"
RUNNER_TAMPERED = "runner-tampered"
FLAKY_RECOVERED = "flaky-recovered"
EXPECTED_FAILURE = "expected-failure"
SANDBOX_FAULT = "sandbox-fault"
GOLD_FAILED = "gold-failed"

ALL = tuple(value for name, value in sorted(globals().items()) if name.isupper() and isinstance(value, str))

ABNORMAL = frozenset({TIMED_OUT, OUT_OF_MEMORY, CRASHED, NOTHING_REPORTED})
"""Ends of a run that could be a fault of ours: the gold patch must be tried before the agent is blamed."""
DISBELIEVED = ABNORMAL | {RUNNER_TAMPERED}
"""No outcome of such a run counts, whatever was reported."""
REFUSED = frozenset({PATCH_UNREADABLE, PATCH_UNSAFE_PATH, PATCH_DOES_NOT_APPLY})
"""The patch was not applied, and no test ran."""
