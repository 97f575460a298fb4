"""The plan of a run (`train/plan/layout.py`) as it is printed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from train.plan.layout import Plan, room, times
from train.plan.memory import cache_part, peak


def show(plan: Plan, console: Console) -> None:
    """Print the plan."""
    config = plan.config
    console.print(f"[bold]{config.model}[/]: {plan.shape.parameters:,} parameters, engine {config.engine}")
    console.print(f"\n[bold]GPUs[/]: {_gpus(plan)}", soft_wrap=True)
    console.print(_memory_table(plan))
    console.print(f"[bold]A step[/]: {_step(plan)}", soft_wrap=True)
    stages = Table("stage", "suite", "", box=None, title="Stages", title_justify="left")
    for number, (reference, state) in enumerate(plan.stages):
        stages.add_row(str(number), reference, state)
    console.print(stages)
    if not plan.missing:
        console.print("[bold]Missing[/]: nothing; without PLAN=1 this would start")
        return
    lacking = Table("missing", "mend it with", box=None, title="Missing", title_justify="left")
    for item in plan.missing:
        lacking.add_row(item.what, item.mend)
    console.print(lacking)


def _gpus(plan: Plan) -> str:
    places, config = plan.places, plan.config
    if not places.trainers:
        return "none found" if config.device == "cuda" else "none: the run stays on the CPU"
    found = f"{len(plan.gpus)} found; trainer on {_numbers(places.trainers)}"
    if config.sharding != "none":
        found += f" ({config.sharding} under torchrun --nproc-per-node {len(places.trainers)})"
    if places.servers:
        found += f", vLLM on {_numbers(places.servers)}"
    if places.shared:
        found += ", in turn (vLLM sleeps during updates)" if config.vllm_sleep else ", side by side"
    idle = len(plan.gpus) - len({*places.trainers, *places.servers})
    return found + (f"; {idle} without work: vllm_replicas, sharding" if idle else "")


def _numbers(gpus: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(set(gpus))))


def _memory_table(plan: Plan) -> Table:
    table = Table("memory", "GB", "", box=None)
    table.columns[1].justify = "right"
    for part in plan.trainer:
        table.add_row(f"trainer: {part.name}", f"{part.bytes / 1e9:.1f}", part.how)
    table.add_row(
        "trainer: at most", f"{peak(plan.trainer) / 1e9:.1f}", "at a time, in each of its processes"
    )
    for part in plan.server:
        table.add_row(f"vLLM: {part.name}", f"{part.bytes / 1e9:.1f}", part.how)
    if plan.server:
        wanted = cache_part(plan.shape, plan.config)
        table.add_row("vLLM: cache, at most", f"{wanted.bytes / 1e9:.1f}", wanted.how)
    if plan.places.servers:
        fits = room(plan) / plan.config.max_length
        table.add_row("vLLM: cache it gets", "", f"room for {fits:.0f} of them at full length; others wait")
    return table


def _step(plan: Plan) -> str:
    config = plan.config
    episodes = config.groups * config.group_size
    told = (
        f"{config.groups} tasks x {config.group_size} samples = {episodes} episodes of at most "
        f"{config.turns} turns, at most {episodes * config.max_length:,} tokens, "
        f"{config.minibatches} optimizer steps"
    )
    if config.device == "cpu" or (config.device == "auto" and not plan.gpus):
        return told
    took = times(plan)
    together = "side by side" if took.overlap else "one after the other"
    return (
        f"{told}; roughly {took.sampling:.0f} s of sampling and {took.training:.0f} s of training "
        f"on {took.gpu}, {together}, where conversations fill half of max_length, tools and tests left out: "
        f"{config.steps * took.step / 3600:.1f} hours for {config.steps} steps"
    )
