"""Build the tiny base model: tokenizer, Qwen2 weights from scratch, SFT on careless demonstrations.

`make tiny-base` repeats it: same seeds, same data, same order. The result is committed under `train/tiny`
with `recipe.json` (everything that went in, by value or by hash) and `training.jsonl` (the log), so that the
reference run is GRPO alone. Matrices are trained with Muon, the rest with AdamW.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from agents.chat import TinyChat
from gym_code.synth.procedural import ProceduralSuite, repository
from train.demos import Demonstration, demonstrations
from train.model import TINY, tiny_config, weights_digest
from train.tokenizer import PAD, SPECIAL, build_tokenizer, save_tokenizer

HEAD = 400
"""So many demonstrations have a hash of their own, quick to check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that goes into the base."""

    seed: int = 0
    demonstrations: int = 24_000
    steps: int = 900
    batch: int = 96
    vocab_size: int = 1024
    matrix_lr: float = 0.02
    other_lr: float = 3e-3
    warmup: int = 40
    decay_from: float = 0.3
    """Where in the run the learning rates begin to fall linearly to zero, as a fraction."""
    context_weight: float = 0.1
    """Weight in the loss of tokens the policy does not sample (instruction, file content)."""


def main() -> None:
    """Build the base into a directory."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=TINY)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch takes")
    for field in dataclasses.fields(Recipe):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default
        )
    options = vars(parser.parse_args())
    out, threads = options.pop("out"), options.pop("threads")
    if threads:
        torch.set_num_threads(threads)
    build(Recipe(**options), out)


def build(
    recipe: Recipe,
    out: Path,
    *,
    config_of: Callable[[int], Any] = tiny_config,
    device: torch.device | str = "cpu",
    seconds: float = math.inf,
) -> None:
    """Train the base and write it, its recipe and its log to `out`.

    `config_of` makes the model's configuration from the size of the vocabulary. The steps take at most
    `seconds`, the learning rates falling accordingly: such a base cannot be repeated to the bit.
    """
    from transformers import Qwen2ForCausalLM

    out.mkdir(parents=True, exist_ok=True)
    task_ids = task_ids_of(recipe)
    tokenizer = build_tokenizer(_texts(task_ids[:4000]), recipe.vocab_size)
    save_tokenizer(tokenizer, out)
    data = demonstrations(task_ids, TinyChat(tokenizer), recipe.seed)
    torch.manual_seed(recipe.seed)
    model = Qwen2ForCausalLM(config_of(math.ceil(tokenizer.get_vocab_size() / 64) * 64)).to(device)
    with (out / "training.jsonl").open("w") as log:
        for row in _train(model, data, recipe, seconds):
            log.write(json.dumps(row) + "\n")
            log.flush()
    model.to(torch.bfloat16).save_pretrained(str(out))
    facts = {
        "recipe": dataclasses.asdict(recipe),
        "parameters": sum(p.numel() for p in model.parameters()),
        "data_sha256": data_digest(data),
        "data_head_sha256": data_digest(data[:HEAD]),
        "tokenizer_sha256": hashlib.sha256((out / "tokenizer.json").read_bytes()).hexdigest(),
        "weights_sha256": weights_digest(out),
        "torch": torch.__version__,
    }
    (out / "recipe.json").write_text(json.dumps(facts, indent=2) + "\n")


def data_digest(data: Sequence[Demonstration]) -> str:
    """SHA-256 (hex) of demonstrations, as JSON."""
    return hashlib.sha256(json.dumps([(d.token_ids, d.action_mask) for d in data]).encode()).hexdigest()


def task_ids_of(recipe: Recipe) -> Sequence[str]:
    """The tasks that are demonstrated, in order; none is of the split that is evaluated."""
    return ProceduralSuite(seed=recipe.seed + 1000, count=recipe.demonstrations, split="train").ids()


def _texts(task_ids: Sequence[str]) -> Iterator[str]:
    for task_id in task_ids:
        made = repository(task_id)
        for path, function in made.missing.items():
            yield made.start[path].content.decode()
            yield made.solved[path].content.decode()
            yield f"Implement {function.name} in {path}.\nEdited {path}.\n{function.wrong}"
    for passed in range(4):
        yield from [f"{passed} passed, {3 - passed} failed"] * 50


def _train(
    model: Any, data: Sequence[Demonstration], recipe: Recipe, seconds: float
) -> Iterator[dict[str, float]]:
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=recipe.matrix_lr, weight_decay=0.0, momentum=0.95),
        torch.optim.AdamW(others, lr=recipe.other_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    order = _batches(len(data), recipe)
    began = time.perf_counter()
    with Progress() as progress:
        bar = progress.add_task("SFT", total=recipe.steps)
        for step in range(recipe.steps):
            done = max(step, recipe.steps * (time.perf_counter() - began) / seconds)
            if done >= recipe.steps:
                break
            scale = _schedule(step, done, recipe)
            for optimizer, rate in zip(optimizers, (recipe.matrix_lr, recipe.other_lr), strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = rate * scale
            loss, action_loss, tokens = _loss(model, [data[i] for i in next(order)], recipe.context_weight)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            progress.update(bar, advance=1, description=f"SFT loss {action_loss:.3f}")
            if step % 10 == 0 or step == recipe.steps - 1:
                yield {
                    "step": step,
                    "action_loss": round(action_loss, 5),
                    "tokens": tokens,
                    "seconds": round(time.perf_counter() - began, 1),
                }


def _schedule(step: int, done: float, recipe: Recipe) -> float:
    """The share of the full rates; `done` of `recipe.steps` are over, by number or by time."""
    turn = recipe.decay_from * recipe.steps
    return min((step + 1) / recipe.warmup, 1.0, (recipe.steps - done) / (recipe.steps - turn))


def _batches(count: int, recipe: Recipe) -> Iterator[list[int]]:
    rng = random.Random(recipe.seed)
    while True:
        order = list(range(count))
        rng.shuffle(order)
        for start in range(0, count - recipe.batch + 1, recipe.batch):
            yield order[start : start + recipe.batch]


def _loss(
    model: Any, batch: Sequence[Demonstration], context_weight: float
) -> tuple[torch.Tensor, float, int]:
    longest = max(len(d.token_ids) for d in batch)
    pad = SPECIAL.index(PAD)
    ids_BT = torch.tensor([[*d.token_ids, *[pad] * (longest - len(d.token_ids))] for d in batch])
    weight_BT = torch.zeros(ids_BT.shape)
    for row, d in enumerate(batch):
        weight_BT[row, : len(d.token_ids)] = torch.tensor(
            [1.0 if m else context_weight for m in d.action_mask]
        )
    ids_BT, weight_BT = ids_BT.to(model.device), weight_BT.to(model.device)
    logits_BTV = model(input_ids=ids_BT).logits[:, :-1].float()
    nll_BT = torch.nn.functional.cross_entropy(
        logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten(), reduction="none"
    ).view(ids_BT.shape[0], -1)
    weight_BT = weight_BT[:, 1:]
    action_BT = (weight_BT == 1.0).float()
    loss = (nll_BT * weight_BT).sum() / weight_BT.sum()
    action_loss = float((nll_BT.detach() * action_BT).sum() / action_BT.sum())
    return loss, action_loss, int((weight_BT > 0).sum())


if __name__ == "__main__":
    main()
