"""GRPO on coding tasks, read from top to bottom.

A step: draw tasks, play a group of samples on each in real sandboxes, grade what they leave, compare each
sample with the others of its group, and take a clipped policy-gradient step on a LoRA adapter.

    python -m train.grpo --model tiny [--control shuffled] [--seed 0] [--name NAME] [--resume] [--plan]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from agents.chat import load_chat
from gym_code.errors import ConfigError, GymCodeError, InputError
from gym_code.records import append
from gym_code.sandbox import open_backend
from gym_code.types import Segment, Trajectory
from train import evaluate
from train.advantages import shuffled, weighted_reward
from train.checkpoint import load_checkpoint, save_best, save_checkpoint, write_whole
from train.config import Config, load_config, parse_settings, to_toml
from train.curriculum import Curriculum
from train.distributed import Ranks, joined
from train.engine.choose import open_engine
from train.groups import Group, open_rollouts
from train.hub import locate
from train.loss import OBJECTIVES
from train.model import checkpoint_activations, device_of, load_adapter, load_base, with_adapter
from train.plan.layout import make_plan, require
from train.plan.text import show
from train.report.metrics import MetricsLog, step_metrics
from train.report.screen import Screen
from train.report.sinks import open_sinks, require_wandb
from train.report.summary import write_report
from train.rollout import Bounds, Roller
from train.segments import segments_of
from train.sft import rejection_step, warm_start
from train.solutions import demonstrated_segments
from train.stages import open_stages
from train.update import update


class Learner:
    """A base model with its adapter, the engine that samples from both, and the rollouts they play.

    `directory` takes the engine's files (a temporary one without it); `report` is told while it starts. With
    `ranks` others hold the policy too, and learn with it.
    """

    def __init__(
        self,
        config: Config,
        *,
        threads: int = 0,
        directory: Path | None = None,
        report: Callable[[str], None] = lambda _: None,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks(device=device_of(config.device))
        self.model, self.optimizer, path = self.ranks.run(make_policy, config, threads)
        self.chat = load_chat(path)
        with ExitStack() as stack:
            self.backend = stack.enter_context(closing(open_backend(config.sandbox)))
            if directory is None:
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gym-code-")))
            suites = open_stages(config.stages, config, self.backend, directory / "suites", report)
            self.curriculum = Curriculum(config, suites)
            self.engine = open_engine(
                config, self.model, path, end_ids=self.chat.end_ids, directory=directory, report=report
            )
            stack.enter_context(closing(self.engine))
            self.roller = Roller(
                self.backend,
                self.chat,
                self.engine,
                Bounds(
                    turns=config.turns,
                    max_length=config.max_length,
                    tool_seconds=config.tool_seconds,
                    wait_seconds=config.wait_seconds,
                ),
                workers=config.workers,
                seats=config.seats,
                lockstep=config.deterministic,
            )
            stack.enter_context(self.roller)
            self.rollouts = open_rollouts(
                config, self.roller, self.curriculum, concurrent=self.engine.concurrent
            )
            stack.enter_context(closing(self.rollouts))
            self._stack = stack.pop_all()

    def __enter__(self) -> Learner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def load_adapter(self, path: Path) -> None:
        """Load an adapter that was saved with a checkpoint. Raises `ConfigError` when none is there."""
        load_adapter(self.model, path)
        self.engine.set_version(-1)

    def update(self, segments: Sequence[Segment], config: Config, step: int) -> dict[str, float]:
        """Learn from the segments; how the optimizer's steps looked."""
        updated: dict[str, float] = self.ranks.run(update, segments, config, step)
        return updated

    def demonstrated(
        self, config: Config, run: Path, on_episode: Callable[[int, int], None] = lambda *_: None
    ) -> list[Segment]:
        """What a warm start learns from; kept in the run's directory."""
        return demonstrated_segments(config, self.chat, self.curriculum, self.backend, run, on_episode)


def make_policy(config: Config, threads: int, *, ranks: Ranks) -> tuple[Any, torch.optim.Optimizer, Path]:
    """The policy as a run begins with it, held by this rank; its optimizer, and where its base lies."""
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(config.seed)
    # A base that is taken apart may be too large for one device.
    device = "cpu" if config.sharding == "fsdp" else config.device
    base, path = load_base(config.model, getattr(torch, config.dtype), device)
    model = with_adapter(base, config.lora_rank, config.lora_alpha)
    if config.gradient_checkpointing:
        checkpoint_activations(model)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    ranks.hold(model, optimizer, config.sharding)
    return model, optimizer, path


def learn_from(groups: Sequence[Group], config: Config, step: int) -> tuple[list[Segment], list[float]]:
    """Segments with their advantages, and the advantage of each trajectory, group by group."""
    advantages_of = OBJECTIVES[config.objective].advantages
    weights = dict(config.reward_weights)
    advantages: list[float] = []
    for group in groups:
        advantages += advantages_of([weighted_reward(t.reward, weights) for t in group.trajectories])
    trajectories = [t for group in groups for t in group.trajectories]
    if config.control == "shuffled":
        graded = [n for n, t in enumerate(trajectories) if t.reward and t.reward.value is not None]
        dealt = shuffled([advantages[n] for n in graded], random.Random(f"{config.seed}/{step}/control"))
        for n, advantage in zip(graded, dealt, strict=True):
            advantages[n] = advantage
    segments = [
        segment
        for trajectory, advantage in zip(trajectories, advantages, strict=True)
        if advantage != 0.0 or (config.kl_coef and trajectory.reward and trajectory.reward.value is not None)
        for segment in segments_of(trajectory, advantage)
    ]
    return segments, advantages


def train(
    config: Config,
    run: Path,
    *,
    resume: bool,
    threads: int = 0,
    console: Console,
    ranks: Ranks | None = None,
    wandb: str | None = None,
) -> None:
    """The whole run: evaluate the base, learn, evaluate again, report. `wandb`: a project to report to."""
    began = time.perf_counter()
    if resume:
        insist_on_the_same(run / "config.toml", config)
    write_whole(run / "config.toml", to_toml(config).encode())
    with console.status("loading the model") as status:
        learner = Learner(config, threads=threads, directory=run, report=status.update, ranks=ranks)
    with learner:
        done, warm = 0, False
        if resume and (
            found := load_checkpoint(run / "checkpoints", learner.model, learner.optimizer, config)
        ):
            done, warm = found.step, True
            learner.rollouts.restore(found.rollouts)
            if found.note:
                console.print(found.note)
        learner.ranks.spread()
        sinks = open_sinks(run, asdict(config), done=done, wandb=wandb)
        with MetricsLog(run / "metrics.jsonl", sinks) as log, Screen(config, console, done=done) as screen:
            log.cut(done)
            log.evaluated(0, _evaluate(config, learner, run, screen, "before", keep=resume))
            if config.warm_start and not warm:
                _warm_start(config, learner, run, screen)
            learner.engine.set_version(done)
            for step in range(done, config.steps):
                row = _step(config, learner, run, step)
                log.write(row)
                screen.step(row)
                if config.eval_every and (step + 1) % config.eval_every == 0:
                    scores = _evaluate_on_the_way(config, learner, run, screen, step + 1)
                    log.evaluated(step + 1, {"heldout": scores})
                if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
                    _save(config, learner, run, step + 1)
            log.evaluated(config.steps, _evaluate(config, learner, run, screen, "after", keep=False))
    summary = write_report(run, config, log.read(), wall_seconds=time.perf_counter() - began)
    low, high = summary["gain_ci95"]
    console.print(
        f"held-out pass@1 {summary['heldout_pass1_before']:.3f} -> {summary['heldout_pass1_after']:.3f} "
        f"(gain {summary['gain']:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}); "
        f"greedy {summary['heldout_greedy_before']:.3f} -> {summary['heldout_greedy_after']:.3f}; "
        f"{summary['heldout_tasks']} tasks"
    )
    console.print(f"curve: {run / 'curve.png'}   report: {run / 'report.html'}")


def insist_on_the_same(path: Path, config: Config) -> None:
    """Raise `ConfigError`, naming the fields, where a run was begun with other values than it would go on."""
    if not path.is_file():  # killed before it was written: nothing has been done yet
        return
    begun, now = asdict(load_config(str(path), {})), asdict(config)
    if changed := [key for key in now if begun[key] != now[key]]:
        raise ConfigError(
            "the run was begun with another configuration",
            where=f"{path}: {', '.join(changed)}",
            expected=", ".join(str(begun[key]) for key in changed),
            found=", ".join(str(now[key]) for key in changed),
        )


def _warm_start(config: Config, learner: Learner, run: Path, screen: Screen) -> None:
    """Learn from solutions, and keep the outcome as the checkpoint of step 0: a resumed run begins there."""
    segments = learner.demonstrated(
        config, run, lambda done, total: screen.doing("warm start, solutions", done, total)
    )
    with learner.engine.resting():
        rows = warm_start(learner.ranks, segments, config)
    write_whole(run / "warm-start.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    _save(config, learner, run, 0)


def _save(config: Config, learner: Learner, run: Path, step: int) -> None:
    save_checkpoint(
        run / "checkpoints", learner.model, learner.optimizer, step, config, learner.rollouts.state()
    )


def _step(config: Config, learner: Learner, run: Path, step: int) -> dict[str, Any]:
    before = dict(learner.roller.seconds)
    began = time.perf_counter()
    batch = learner.rollouts.take(step)
    seconds = {"rollout": time.perf_counter() - began}
    trajectories = [t for group in batch.groups for t in group.trajectories]
    refilled = [t for group in batch.left_out for t in group.trajectories]
    write_trajectories(run / "trajectories" / f"step-{step:05d}.jsonl", [*trajectories, *refilled])
    segments, advantages = learn_from(batch.groups, config, step)
    began = time.perf_counter()
    solved = learner.curriculum.solve_rate
    with learner.engine.resting():
        if solved is not None and solved < config.rejection_below:
            played, advantages = [*trajectories, *refilled], [0.0] * len(advantages)
            update = rejection_step(
                learner.ranks, played, config, step, lambda: learner.demonstrated(config, run)
            )
        else:
            update = learner.update(segments, config, step)
    update |= learner.curriculum.metrics() | {"learning_rate": learner.optimizer.param_groups[0]["lr"]}
    seconds["train"] = time.perf_counter() - began
    began = time.perf_counter()
    learner.engine.set_version(step + 1)
    seconds["sync"] = time.perf_counter() - began
    seconds |= {part: spent - before[part] for part, spent in learner.roller.seconds.items()}
    return step_metrics(
        step,
        trajectories,
        advantages,
        update | learner.engine.take_metrics(),
        seconds,
        refilled=refilled,
        segments=None if "sft_steps" in update else segments,
        weights=dict(config.reward_weights),
    )


def write_trajectories(path: Path, trajectories: Sequence[Trajectory]) -> None:
    """One file a step; a step that is played again after a crash replaces its file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    append(path, *trajectories)


def _evaluate(
    config: Config, learner: Learner, run: Path, screen: Screen, label: str, *, keep: bool
) -> dict[str, list[evaluate.TaskScore]]:
    """The held-out tasks, and apart from them those of `eval_suites`, before or after the run.

    What was played now; `keep`: what an earlier life of the run has played is not played again.
    """
    evaluations = [("heldout", evaluate.procedural_tasks(config))]
    if config.eval_suites:
        suites = open_stages(config.eval_suites, config, learner.backend, run / "suites")
        evaluations.append(("suites", evaluate.suite_tasks([suite for stage in suites for suite in stage])))
    scores = {}
    for name, tasks in evaluations:
        path = run / f"{name}-{label}.json"
        if not (keep and path.is_file()):
            scores[name] = _scores(config, learner, path, screen, f"{name}, {label}", tasks)
    return scores


def _evaluate_on_the_way(
    config: Config, learner: Learner, run: Path, screen: Screen, step: int
) -> list[evaluate.TaskScore]:
    """A smaller sample after `step` steps, which decides whether this is the best adapter so far."""
    path = run / f"heldout-step-{step}.json"
    tasks = evaluate.tasks_on_the_way(config)
    scores = _scores(config, learner, path, screen, f"held-out, step {step}", tasks)
    save_best(run / "checkpoints", learner.model, step, evaluate.pass1_of(scores))
    return scores


def _scores(
    config: Config,
    learner: Learner,
    path: Path,
    screen: Screen,
    label: str,
    tasks: Sequence[evaluate.HeldOut],
) -> list[evaluate.TaskScore]:
    scores = evaluate.evaluate(
        config,
        learner.rollouts.play,
        lambda played, total: screen.doing(label, played, total),
        tasks,
    )
    write_whole(path, evaluate.dump(scores))
    return scores


def run_directory(root: Path, name: str | None, config: Config, stem: str, *, resume: bool) -> Path:
    """The directory of a new run, or of the latest one of this name to resume.

    Without a name it is made from model, control and seed, and numbered where it is taken. Raises
    `ConfigError` for a given name that is taken, and where there is nothing to resume.
    """
    control = "" if config.control == "none" else f"-{config.control}"
    first = name or f"{stem}{control}-seed{config.seed}"
    run, number = root / first, 1
    if resume:
        if not run.is_dir():
            raise ConfigError(
                "no run to resume", where=str(run), expected="a run's directory", found="nothing"
            )
        while name is None and (root / f"{first}-{number + 1}").is_dir():
            number += 1
            run = root / f"{first}-{number}"
        return run
    if name is not None and run.exists():
        raise ConfigError(
            "this run exists", where=str(run), expected="a new name, or --resume", found="a directory"
        )
    while run.exists():
        number += 1
        run = root / f"{first}-{number}"
    run.mkdir(parents=True)
    return run


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the command line; exit status 2 for bad options or a run that cannot be resumed."""
    parser = argparse.ArgumentParser(
        prog="train.grpo", description=__doc__.split("\n")[0] if __doc__ else None
    )
    parser.add_argument(
        "--model", default="tiny", help="a config by name, a .toml file, a model's directory or its hub id"
    )
    parser.add_argument("--plan", action="store_true", help="say what the run would need; start nothing")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any other value of the config"
    )
    parser.add_argument("--control", choices=("none", "shuffled"), default=None)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--engine", choices=("torch", "vllm"), default=None, help="what serves the rollouts")
    parser.add_argument("--sharding", choices=("none", "ddp", "fsdp"), default=None, help="under torchrun")
    parser.add_argument("--sandbox", default=None)
    parser.add_argument("--name", default=None, help="the run's directory under runs/")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as many as torch takes")
    parser.add_argument("--wandb", metavar="PROJECT", help="report to Weights & Biases as well")
    parser.add_argument("--resume", action="store_true", help="go on where the run of this name stopped")
    options = parser.parse_args(argv)
    console = Console()
    keys = ("control", "seed", "steps", "sandbox", "engine", "sharding")
    given = {key: getattr(options, key) for key in keys}
    try:
        overrides = parse_settings(options.set) | {k: v for k, v in given.items() if v is not None}
        config = load_config(options.model, overrides, download=not options.plan)
        if options.plan:
            show(make_plan(config), console)
            return 0
        for item in require(config):
            console.print(f"[yellow]warning:[/] {escape(item.what)} ({escape(item.mend)})", soft_wrap=True)
        locate(config.model)
        if options.wandb is not None:
            require_wandb()
        with joined(config.sharding, config.device) as ranks:
            if ranks.rank:
                ranks.follow()
                return 0
            stem = Path(options.model.removesuffix(".toml")).name
            run = run_directory(Path("runs"), options.name, config, stem, resume=options.resume)
            train(
                config,
                run,
                resume=options.resume,
                threads=options.threads,
                console=console,
                ranks=ranks,
                wandb=options.wandb,
            )
    except GymCodeError as error:
        console.print(f"[red]error:[/] {error}", soft_wrap=True, markup=True)
        return 2 if isinstance(error, InputError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
