"""benchmarks/evaluation: what is said of the rounds follows from them, and the watch sees what it should."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from benchmarks.evaluation import results
from benchmarks.evaluation.corpus import Instance
from benchmarks.evaluation.throughput import OURS, THEIRS, THEIRS_AT_ONCE, Round, peers_share
from benchmarks.evaluation.watch import Watch
from gym_code.sandbox.dockerd import OWNER

GOLD, WRONG = ("a", "gold"), ("a", "wrong")


def done(
    who: str, seconds: float, *, left: int = 0, resolved: frozenset[tuple[str, str]] = frozenset({GOLD})
) -> Round:
    cases = frozenset({GOLD, WRONG}) if who == OURS else frozenset({GOLD})
    return Round(
        who=who,
        cases=cases,
        seconds=seconds,
        resolved=resolved,
        docker_peak=int(seconds * 1e6),
        state_peak=5_000_000,
        left=left,
    )


def one(ours: float, theirs: float, at_once: float, **about: Any) -> list[Round]:
    return [done(THEIRS, theirs), done(THEIRS_AT_ONCE, at_once), done(OURS, ours, **about)]


def measured(*rounds: list[Round]) -> dict[str, Any]:
    machine = {"load_at_start": 0.1, "cores": 4}
    return {**results.of_rounds(rounds), "instances": 1, "machine": machine}


def test_ratios_are_taken_round_by_round() -> None:
    # Gradings a minute: ours 60, 30, 20; theirs 6, 6, 6; so 10, 5 and 3.3 times.
    found = measured(one(2, 10, 4), one(4, 10, 4), one(6, 10, 4))
    assert found["ratios"][0] == {"name": THEIRS, "ratio": 5.0, "interval_95": [3.33, 10.0]}
    assert found["ratios"][1]["ratio"] == 2.0  # against 15 a minute: 4, 2, 1.3
    ours = found["rows"][0]
    assert (ours["gradings"], ours["median"], ours["rates"]) == (6, 30.0, [60.0, 30.0, 20.0])
    assert (ours["docker_peak"], ours["left"]) == (6_000_000, 0)
    text = results.markdown(found)
    assert "- PASS: at least 2 times as many gradings as swebench: 5.0 times [3.3, 10.0]" in text
    assert "| gym-code evaluate | 6 | 30.0 (20.0 to 60.0) | 6 MB | 5 MB | 0 |" in text
    assert "of 6 verdicts that both gave 0 differ" in text


def test_what_falls_short_is_said() -> None:
    text = results.markdown(measured(one(10, 10, 4, left=2), one(10, 10, 4)))
    assert "- PASS: at least 2" in text  # two gradings in the time of one
    assert "- FALLS SHORT: no container of ours is left: 2" in text
    assert "- FALLS SHORT: at least 2" in results.markdown(measured(one(30, 10, 4), one(2, 10, 4)))


def test_verdicts_that_differ_are_counted() -> None:
    differing = one(
        2, 10, 4, resolved=frozenset({WRONG})
    )  # theirs resolve what ours do not; only ours saw WRONG
    assert measured(differing)["verdicts"] == {"compared": 2, "differ": 2}


def test_the_share_of_the_others_goes_round_instances_and_variants() -> None:
    def instance(number: int) -> Instance:
        return Instance(row={"instance_id": str(number)}, predictions={}, packages=(), import_from="")

    many = [instance(number) for number in range(20)]
    first, second = list(peers_share(many, 0)), list(peers_share(many, 1))
    assert first[:3] == [("0", "gold"), ("1", "wrong"), ("2", "partial")]
    assert second[7:9] == [("19", "crashing"), ("0", "unfitting")]
    assert (len(first), len(second), len(peers_share(many[:2], 3))) == (12, 12, 2)


class Daemon:
    """As much of a daemon's client as a watch asks for."""

    def __init__(self, root: Path) -> None:
        self.root, self.listed = root, list[dict[str, Any]]()

    def info(self) -> dict[str, str]:
        return {"DockerRootDir": str(self.root)}

    def containers(self, **_: bool) -> list[dict[str, Any]]:
        return self.listed


def test_containers_that_stay_are_those_of_the_round(tmp_path: Path) -> None:
    def container(name: str, image: str, owner: str = "") -> dict[str, Any]:
        return {"Id": name, "Image": image, "Labels": {OWNER: owner}}

    daemon = Daemon(tmp_path)
    daemon.listed = [container("before", "bench")]
    with Watch(daemon, tmp_path) as watch:  # type: ignore[arg-type]
        daemon.listed += [container("theirs", "bench"), container("ours", "guest", f"{os.getpid()}-7")]
        daemon.listed += [container("somebody's", "guest", "1-7")]
    assert watch.left(os.getpid(), {"bench"}) == ["theirs", "ours"]


def test_the_most_that_was_there_counts(tmp_path: Path) -> None:
    file = tmp_path / "layer"
    with Watch(Daemon(tmp_path), tmp_path) as watch:  # type: ignore[arg-type]
        file.write_bytes(bytes(1 << 20))
        while watch.state_peak < 1 << 20:
            assert not watch._over.wait(0.05)
        file.unlink()
    assert 1 << 20 <= watch.state_peak < 2 << 20
