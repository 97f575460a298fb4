"""TRL's GRPOTrainer with the objective of a configuration of ours, in full precision on a CPU."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.advantages import leave_one_out
from train.config import Config
from train.loss import OBJECTIVES
from train.model import TINY


def grpo_trainer(
    model: Any, config: Config, directory: Path, prompts: Sequence[str], options: dict[str, Any], **parts: Any
) -> Any:
    """A trainer of `model` on `prompts` that writes nothing worth keeping into `directory`.

    options: more of GRPOConfig's arguments. parts: more of GRPOTrainer's.
    """
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    # What transformers will give up, TRL and peft still use; nobody here can mend it.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    args = GRPOConfig(
        output_dir=str(directory),
        seed=config.seed,
        max_grad_norm=config.max_grad_norm,
        temperature=config.temperature,
        max_completion_length=int(config.length_norm),  # here only what dr_grpo divides by
        **loss_options(config),
        **options,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        shuffle_dataset=False,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    return GRPOTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_dict({"prompt": list(prompts)}),
        processing_class=AutoTokenizer.from_pretrained(str(TINY)),
        **parts,
    )


def loss_options(config: Config) -> dict[str, Any]:
    """TRL's names for the objective, its clips, and whether advantages are divided by their deviation."""
    plain = OBJECTIVES[config.objective].advantages is leave_one_out
    return {
        "loss_type": config.objective,
        "epsilon": config.clip_low,
        "epsilon_high": config.clip_high,
        "beta": config.kl_coef,
        "scale_rewards": "none" if plain else "group",
    }
