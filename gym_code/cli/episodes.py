"""`gym-code run`, `grade` and `replay`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gym_code import __version__, records
from gym_code.cli.terminal import NO, Json, SandboxName, SuiteRef, TaskId, people, print_json, reward_json
from gym_code.data import checkout_directory
from gym_code.errors import ConfigError
from gym_code.types import Outcome

if TYPE_CHECKING:
    from gym_code.types import JSON, Trajectory

AGENT_HELP = "oracle, noop, random, replay, llm, or module:Class."
OPTION_HELP = "KEY=VALUE for the agent, VALUE as JSON or text; may be repeated."
WHERE_CHECKOUT = (
    f"its source archive holds one: pip download --no-deps --no-binary gym-code gym-code=={__version__}"
)


def run(
    suite: SuiteRef,
    task: TaskId,
    agent: Annotated[str, typer.Option("--agent", help=AGENT_HELP)] = "oracle",
    sandbox: SandboxName = "auto",
    out: Annotated[Path | None, typer.Option("--out", help="Append the trajectory to this file.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the policy.")] = 0,
    option: Annotated[list[str] | None, typer.Option("--agent-option", help=OPTION_HELP)] = None,
    as_json: Json = False,
) -> None:
    """Play one episode with an agent and record it. Status 1 when it could not be graded."""
    from gym_code.episode import Episode
    from gym_code.sandbox import open_backend
    from gym_code.task import load_suite

    policies, loop = from_checkout("agents.policy"), from_checkout("agents.loop")
    loaded = load_suite(suite)
    policy = policies.load_policy(agent, parse_options(option or []), suite=loaded)
    if out is not None:
        refuse_unwritable(out)
    backend = open_backend(sandbox)
    try:
        with Episode(loaded, task, backend) as episode:
            trajectory = loop.play(policy, episode, seed=seed, suite=suite)
    finally:
        backend.close()
    if out is not None:
        records.append(out, trajectory)
    summary = episode_json(trajectory) | {"out": str(out) if out else None}
    if as_json:
        print_json(summary)
    else:
        _show_episode(summary)
    if summary["reward"] is None:
        raise typer.Exit(NO)


def grade(
    suite: SuiteRef,
    task: TaskId,
    patch: Annotated[str, typer.Option("--patch", help="A git patch; - for standard input.")],
    sandbox: SandboxName = "auto",
    as_json: Json = False,
) -> None:
    """Grade a patch in a clean box. Status 1 when the task is not resolved."""
    from gym_code.grading import grade as grade_patch
    from gym_code.sandbox import open_backend
    from gym_code.task import load_suite

    content = read_patch(patch)
    loaded = load_suite(suite)
    public, answer, start = loaded.task(task), loaded.answer(task), loaded.start(task)
    backend = open_backend(sandbox)
    try:
        found = reward_json(grade_patch(public, answer, content, backend, start))
    finally:
        backend.close()
    if as_json:
        print_json({"task": task, **found})
    else:
        _show_grade(found)
    if not found["resolved"]:
        raise typer.Exit(NO)


def replay(
    file: Annotated[Path, typer.Argument(help="A trajectory file.")],
    suite: Annotated[str, typer.Option("--suite", help="Default: the one each record names.")] = "",
    sandbox: SandboxName = "auto",
    grade: Annotated[bool, typer.Option("--grade", help="Also compare patch and reward.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many.")] = None,
    as_json: Json = False,
) -> None:
    """Play recorded episodes again and name the first difference. Status 1 when one differs."""
    from gym_code.replay import replay as play_again
    from gym_code.sandbox import open_backend
    from gym_code.task import load_suite

    reading = records.read(file)
    if not reading.trajectories:
        raise ConfigError(
            "holds no whole record", where=str(file), expected="a trajectory", found=reading.torn
        )
    rows: list[dict[str, JSON]] = []
    backend = open_backend(sandbox)
    try:
        for number, trajectory in enumerate(reading.trajectories[:limit], start=1):
            found = play_again(trajectory, load_suite(suite or trajectory.suite), backend, grade=grade)
            difference = str(found.divergence) if found.divergence else None
            rows.append(
                {"record": number, "task": trajectory.task_id, "turns": found.turns, "divergence": difference}
            )
            if not as_json:
                people.print(
                    f"{number}  {trajectory.task_id}  {difference or 'same'}", markup=False, soft_wrap=True
                )
    finally:
        backend.close()
    same = all(row["divergence"] is None for row in rows)
    if as_json:
        print_json({"file": str(file), "same": same, "torn": reading.torn, "records": rows})
    elif reading.torn:
        people.print(reading.torn, markup=False, soft_wrap=True)
    if not same:
        raise typer.Exit(NO)


def parse_options(pairs: list[str]) -> dict[str, JSON]:
    """`KEY=VALUE` texts as keyword arguments; a value that is JSON is read as such. Raises `ConfigError`."""
    import json

    options: dict[str, JSON] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError("wrong agent option", where="--agent-option", expected="KEY=VALUE", found=pair)
        try:
            options[key] = json.loads(text)
        except ValueError:
            options[key] = text
    return options


def read_patch(name: str) -> bytes:
    """The bytes of a patch file, or of standard input for `-`. Raises `ConfigError`."""
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise ConfigError(
            "cannot be read", where=name, expected="a patch file", found=error.strerror
        ) from None


def refuse_unwritable(out: Path) -> None:
    """Find out before an episode is played whether it can be recorded. Raises `ConfigError`."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = not out.exists()
        with out.open("ab"):
            pass
        if fresh:
            out.unlink()
    except OSError as error:
        raise ConfigError(
            "cannot be written", where=str(out), expected="a file for trajectories", found=error.strerror
        ) from None


def episode_json(trajectory: Trajectory) -> dict[str, JSON]:
    """An episode in one object: who played what, how it ended and what it earned."""
    return {
        "task": trajectory.task_id,
        "agent": trajectory.agent,
        "seed": trajectory.seed,
        "turns": len(trajectory.turns),
        "stop": trajectory.stop.value if trajectory.stop else None,
        **reward_json(trajectory.reward),
        "patch_bytes": len(trajectory.patch),
        "error": trajectory.error,
        "seconds": round(sum(trajectory.timings.values()), 3),
        "backend": trajectory.backend,
    }


def from_checkout(module: str) -> Any:
    """A module that only a checkout has (of `agents` or `train`). Raises `ConfigError`.

    From a wheel nothing is imported: other projects install packages of these names.
    """
    missing: object = None
    if checkout_directory() is not None:
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            missing = error.name
    if missing is None or str(missing).split(".")[0] == module.split(".")[0]:
        raise ConfigError(f"this command needs a checkout of gym-code; {WHERE_CHECKOUT}")
    raise ConfigError(
        f"{module} needs a package that is not installed; `make setup` installs it",
        expected="the extras train and llm",
        found=f"no module {missing}",
    )


def _show_episode(summary: dict[str, JSON]) -> None:
    stop = summary["stop"] or "broken off"
    people.print(
        f"{summary['task']}: {summary['agent']}, {summary['turns']} turns, {stop}, {summary['seconds']} s",
        markup=False,
        soft_wrap=True,
    )
    if summary["error"]:
        people.print(f"error     {summary['error']}", markup=False, soft_wrap=True)
    tests = summary["tests"]
    failed = {test: outcome for test, outcome in tests.items() if outcome != Outcome.PASSED}
    _show_grade(summary | {"tests": failed})
    people.print(f"tests     {len(tests) - len(failed)} of {len(tests)} passed")
    if summary["out"]:
        people.print(f"recorded  {summary['out']}", markup=False, soft_wrap=True)


def _show_grade(found: dict[str, JSON]) -> None:
    lines = [
        f"reward    {found['reward']}",
        f"resolved  {found['resolved']}",
        f"valid     {found['valid']}",
        f"flags     {', '.join(found['flags']) or 'none'}",
        *(f"  {outcome:<10}{test}" for test, outcome in found["tests"].items()),
    ]
    people.print("\n".join(lines), markup=False, soft_wrap=True)
