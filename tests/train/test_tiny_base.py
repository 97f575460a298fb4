"""The committed base is what its recipe says, and the recipe still makes the same data."""

import hashlib
import json

import torch

from agents.chat import load_chat
from train.demos import demonstrations
from train.model import TINY, load_base, weights_digest
from train.tiny_base import HEAD, Recipe, data_digest, task_ids_of

FACTS = json.loads((TINY / "recipe.json").read_text())


def test_weights_and_tokenizer_are_the_recorded_ones() -> None:
    assert weights_digest(TINY) == FACTS["weights_sha256"]
    tokenizer = (TINY / "tokenizer.json").read_bytes()
    assert hashlib.sha256(tokenizer).hexdigest() == FACTS["tokenizer_sha256"]
    assert sum(path.stat().st_size for path in TINY.iterdir()) <= 8 * 1024**2


def test_the_recipe_still_makes_the_demonstrations_the_base_was_built_from() -> None:
    recipe = Recipe(**FACTS["recipe"])
    assert recipe == Recipe()
    ids = task_ids_of(recipe)
    assert all("-train-" in task_id for task_id in ids)
    made = demonstrations(ids[:HEAD], load_chat(TINY), recipe.seed)
    assert data_digest(made) == FACTS["data_head_sha256"]


def test_the_model_has_the_size_it_claims() -> None:
    model, path = load_base("tiny", torch.float32)
    assert path == TINY
    assert sum(p.numel() for p in model.parameters()) == FACTS["parameters"]
    assert 1_000_000 <= FACTS["parameters"] <= 4_000_000


def test_the_training_log_ends_where_it_had_converged() -> None:
    rows = [json.loads(line) for line in (TINY / "training.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == FACTS["recipe"]["steps"] - 1
    # What the careless programmer leaves to chance, which way and whether to test: 1.3 nats in 28 tokens.
    assert sum(row["action_loss"] for row in rows[-5:]) / 5 < 0.06
