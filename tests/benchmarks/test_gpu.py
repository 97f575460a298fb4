"""benchmarks/gpu: operations counted by hand and by torch; what is said of figures; all parts at toy size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import results, runs, speed
from benchmarks.gpu.flops import (
    Matrices,
    matrices_of,
    peak_flops,
    prime_rl_flops,
    recomputed_flops,
    trained_flops,
    utilization,
)
from benchmarks.gpu.shapes import TOY, build
from gym_code.errors import ConfigError
from train.logprob import packed_logprobs
from train.model import checkpoint_activations, with_adapter
from train.pack import pack

CPU, META = torch.device("cpu"), torch.device("meta")


def adapted(name: str, device: torch.device, rank: int) -> Any:
    return with_adapter(build(name, device, torch.bfloat16), rank, 2.0 * rank)


@pytest.mark.parametrize(
    ("name", "parameters"),
    # As counted on the published weights.
    [("Qwen3-0.6B", 596_049_920), ("Qwen3-4B", 4_022_468_096), ("Qwen2.5-7B", 7_615_616_512)],
)
def test_the_shapes_are_the_published_ones(name: str, parameters: int) -> None:
    assert sum(p.numel() for p in build(name, META, torch.bfloat16).parameters()) == parameters


def test_operations_by_hand() -> None:
    matrices = Matrices(layers=100, head=10, adapter=5, attention=3, attention_prime_rl=2)
    # 4 * 110 + 6 * 5 = 470 a token, 5 tokens; 12 * 3 a pair, 1 + 2 and 1 + 2 + 3 pairs.
    assert trained_flops(matrices, [2, 3]) == 470 * 5 + 36 * 9
    # The layers' forward once more, 2 * 105 a token and 4 * 3 a pair.
    assert recomputed_flops(matrices, [2, 3]) == 210 * 5 + 12 * 9
    # All pairs, 4 + 9, with the other size.
    assert prime_rl_flops(matrices, [2, 3]) == 470 * 5 + 24 * 13
    # 4e14 operations in 2 seconds of 312e12 each; with the recomputed half 6e14.
    used = utilization(
        Matrices(layers=10**14, head=0, adapter=0, attention=0, attention_prime_rl=0), [1], 2.0, "A100"
    )
    assert used == {"mfu": 0.641, "hfu": 0.9615, "mfu_prime_rl": 0.641}


def test_prime_rls_form_gives_its_published_utilization() -> None:
    length, (rate, published) = 65_536, results.PUBLISHED["Qwen3-4B", 65_536]
    matrices = matrices_of(adapted("Qwen3-4B", META, 16))
    used = utilization(matrices, [length], length / rate, "NVIDIA H100 80GB HBM3")
    assert used["mfu_prime_rl"] == pytest.approx(0.377, abs=5e-4)
    assert published == 0.37


@pytest.mark.parametrize("name", TOY)
@pytest.mark.parametrize("recomputed", [False, True])
def test_operations_are_those_that_torch_counts(name: str, recomputed: bool) -> None:
    model, rank, parts, length = adapted(name, CPU, 4).train(), 4, 2, 64
    if recomputed:
        checkpoint_activations(model)
    segments = speed.synthetic(length, parts, 512)[:parts]
    # The plain kernel counts all pairs, causal or not, so each segment's are put in whole.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        packed_logprobs(model, pack(segments, length=length), 1.0)[0].sum().backward()
    config, matrices = model.config, matrices_of(model)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    lengths = [length // parts] * parts
    hidden_pairs = sum(n * n for n in lengths) - sum(n * (n + 1) / 2 for n in lengths)
    wanted = trained_flops(matrices, lengths) + 12 * matrices.attention * hidden_pairs
    wanted -= 4 * matrices.head * parts  # nothing predicts a segment's first token
    if recomputed:
        wanted += recomputed_flops(matrices, lengths) + 4 * matrices.attention * hidden_pairs
        # Recomputation ends where nothing more is needed: before the last product of the adapter in a layer.
        wanted -= 2 * length * config.num_hidden_layers * rank * config.hidden_size
    else:
        # The embedding takes no gradient, so the first layer's queries, keys and values need none by input.
        inner = size * (config.num_attention_heads + 2 * config.num_key_value_heads)
        wanted -= 2 * length * config.hidden_size * (inner + 3 * rank)
    assert counter.get_total_flops() == wanted


def test_peaks_by_name() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3") == peak_flops("NVIDIA H200") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_flops("NVIDIA GeForce RTX 4090") is None
    matrices = Matrices(layers=1, head=1, adapter=1, attention=1, attention_prime_rl=1)
    assert utilization(matrices, [1], 1.0, "NVIDIA GeForce RTX 4090") == {}


def test_synthetic_segments_fill_their_rows() -> None:
    segments = speed.synthetic(64, 4, 100)
    packed = pack(segments[:4], length=64)
    assert packed.ids_RL.shape == (1, 64)
    assert packed.lengths == [16] * 4
    assert [s.group_id for s in segments] == ["0"] * 4 + ["1"] * 4
    assert sum(s.advantages_T[1] for s in segments) == 0


def test_the_update_is_timed_in_every_layout() -> None:
    plan = speed.Plan(models=["toy Qwen3"], lengths=[64], layouts=["one", "packed"], steps=1, rank=4)
    rows = list(speed.measure(plan, CPU))
    assert [(row["model"], row["tokens"], row["layout"]) for row in rows] == [
        ("toy Qwen3", 64, "one"),
        ("toy Qwen3", 64, "packed"),
    ]
    for row in rows:
        # Both forwards' tokens; memory and utilization are a GPU's.
        assert row["tokens_per_second"] == pytest.approx(128 / row["step_seconds"], rel=0.02)
        assert row.keys() == {"model", "tokens", "layout", "step_seconds", "tokens_per_second"}


def test_what_does_not_fit_is_a_row_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    real = speed.update

    def full_at_128(model: Any, optimizer: Any, segments: Any, config: Any, step: int) -> dict[str, float]:
        if config.pack_length == 128:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
        return real(model, optimizer, segments, config, step)

    monkeypatch.setattr(speed, "update", full_at_128)
    plan = speed.Plan(models=["toy Qwen2"], lengths=[128, 64], layouts=["one"], steps=1)
    full, other = speed.measure(plan, CPU)
    assert full == {"model": "toy Qwen2", "tokens": 128, "layout": "one", "reason": "CUDA out of memory"}
    assert other["tokens_per_second"] > 0


def test_an_unknown_shape_is_named() -> None:
    plan = speed.Plan(models=["Qwen9"], lengths=[64], layouts=["one"], steps=1)
    with pytest.raises(
        ConfigError, match=r"--models: no such shape \(expected Qwen3-0.6B, .*, found Qwen9\)"
    ):
        next(speed.measure(plan, CPU))


MACHINE = {"device": "NVIDIA H100 80GB HBM3", "memory_gib": 79, "cores": 16, "torch": "2.13.0"}
MEASURED = {
    "model": "Qwen3-4B", "tokens": 65_536, "layout": "one", "step_seconds": 20.0, "tokens_per_second": 6553.6,
    "peak_allocated_gib": 31.25, "peak_reserved_gib": 40.0, "mfu": 0.5, "hfu": 0.6, "mfu_prime_rl": 0.588,
}  # fmt: skip
FULL = {"model": "Qwen2.5-7B", "tokens": 65_536, "layout": "packed", "reason": "CUDA out of memory"}


def test_the_table_of_speeds_stands_beside_the_published_one(tmp_path: Path) -> None:
    found = {"speed": {"machine": MACHINE, "rank": 16, "rows": [MEASURED, FULL]}}
    assert results.markdown(found).splitlines()[2:] == [
        "| Qwen3-4B | 65,536 | one | 6,554 | 50 % | 60 % | 59 % | 31.2 | 4,200 | 37 % |",
        "| Qwen2.5-7B | 65,536 | packed | CUDA out of memory |  |  |  |  |  |  |",
        "",
        "On NVIDIA H100 80GB HBM3 (79 GiB), 16 cores, torch 2.13.0.",
    ]
    results.draw(tmp_path / "figures.png", found)
    assert (tmp_path / "figures.png").stat().st_size > 10_000
    results.draw(tmp_path / "none.png", {"speed": {"rows": [FULL]}})
    assert not (tmp_path / "none.png").exists()


def test_parts_measured_apart_are_kept_together(tmp_path: Path) -> None:
    options = command.parse(["--out", str(tmp_path)])
    command.keep(options, {"speed": {"machine": MACHINE, "rows": [MEASURED]}})
    (tmp_path / "results.png").unlink()
    step = {"engine": "vllm", "reason": "vLLM is not installed"}
    command.keep(options, {"step": {"machine": MACHINE, "model": "tiny", "rows": [step]}})
    text = (tmp_path / "results.json").read_text()
    assert "6553.6" in text
    assert "vLLM is not installed" in text
    assert (tmp_path / "results.png").exists()


def test_how_long_a_step_took() -> None:
    # Episodes overlap, and so do their parts; the rollout as a whole is what the step waits for.
    parts = {
        "open": 1.0,
        "generate": 2.0,
        "tools": 3.0,
        "grade": 4.0,
        "rollout": 7.0,
        "train": 5.0,
        "sync": 6.0,
    }
    assert runs.step_seconds(parts) == 18.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    with pytest.raises(
        ConfigError, match=r"^needs a CUDA GPU, and torch sees none; `python -m .* --toy` .*$"
    ):
        command.main([])


@pytest.mark.sandbox
@pytest.mark.slow
def test_a_step_and_a_policy_that_learns_at_toy_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, work = tmp_path / "out", tmp_path / "work"
    given = ["--toy", "--model", "tiny", "--engines", "torch", "--steps", "1"]
    command.main(["learn", "step", *given, "--work", str(work), "--out", str(out)])
    page = capsys.readouterr().out
    assert "| 0.5 M | 4 | 1 |" in page  # parameters, SFT steps, GRPO steps
    assert "| tiny: engine | episodes | tokens sampled | step, s |" in page
    [row] = [line for line in page.splitlines() if line.startswith("| torch | 4 | ")]
    assert float(row.split("|")[4]) > 0
    # Toy figures are printed and never kept.
    assert not out.exists()
    assert (work / "learn/summary.json").is_file()
