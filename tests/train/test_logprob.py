"""The chunked head against the plain one."""

import pytest
import torch

from train.logprob import ChunkedLogprobs

N, C, V = 23, 16, 101
TEMPERATURE = 0.7


def inputs(scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden_NC = torch.randn(N, C, generator=generator) * scale
    weight_VC = torch.randn(V, C, generator=generator)
    target_N = torch.randint(0, V, (N,), generator=generator)
    return hidden_NC, weight_VC, target_N, torch.randn(N, generator=generator)


def plain(
    hidden_NC: torch.Tensor, weight_VC: torch.Tensor, target_N: torch.Tensor, upstream_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logprobs, entropy and the gradient by the hidden states in doubles, with all logits at once."""
    hidden_NC = hidden_NC.double().requires_grad_()
    all_NV = torch.log_softmax(hidden_NC @ weight_VC.double().T / TEMPERATURE, dim=-1)
    logprobs_N = all_NV.gather(1, target_N[:, None])[:, 0]
    (logprobs_N * upstream_N).sum().backward()
    assert hidden_NC.grad is not None
    return logprobs_N.detach(), -(all_NV.exp() * all_NV).sum(-1).detach(), hidden_NC.grad


@pytest.mark.parametrize("chunk", [1, 7, 23, 1024])
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_chunks_change_nothing(chunk: int, scale: float) -> None:
    hidden_NC, weight_VC, target_N, upstream_N = inputs(scale)
    wanted_N, wanted_entropy_N, wanted_gradient_NC = plain(hidden_NC, weight_VC, target_N, upstream_N)
    hidden_NC.requires_grad_()
    logprobs_N, entropy_N = ChunkedLogprobs.apply(hidden_NC, weight_VC, target_N, TEMPERATURE, chunk)
    (logprobs_N * upstream_N).sum().backward()
    assert hidden_NC.grad is not None
    assert not entropy_N.requires_grad
    # At scale 8 logprobs reach -150, of which fp32 resolves 1e-5.
    assert float((logprobs_N.detach() - wanted_N).abs().max()) <= 1e-5 * scale
    assert float((entropy_N - wanted_entropy_N).abs().max()) <= 1e-5
    assert float((hidden_NC.grad - wanted_gradient_NC).norm() / wanted_gradient_NC.norm()) <= 1e-6 * scale


def test_under_bf16_the_softmax_is_in_fp32() -> None:
    hidden_NC, weight_VC, target_N, upstream_N = inputs()
    hidden_NC, weight_VC = hidden_NC.bfloat16(), weight_VC.bfloat16()
    wanted_N, _, wanted_gradient_NC = plain(hidden_NC, weight_VC, target_N, upstream_N)
    hidden_NC.requires_grad_()
    logprobs_N, _ = ChunkedLogprobs.apply(hidden_NC, weight_VC, target_N, TEMPERATURE, 7)
    (logprobs_N * upstream_N).sum().backward()
    assert logprobs_N.dtype == torch.float32
    assert hidden_NC.grad is not None
    # Logits of about 10 are rounded to 2^-8 of themselves by the product; a bf16 softmax would add as much.
    assert float((logprobs_N.detach() - wanted_N).abs().max()) <= 0.06
    assert float((hidden_NC.grad - wanted_gradient_NC).norm() / wanted_gradient_NC.norm()) <= 0.02


def test_the_logits_of_all_tokens_never_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    real = torch.log_softmax

    def watched(logits: torch.Tensor, dim: int) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, len(logits))
        return real(logits, dim=dim)

    monkeypatch.setattr(torch, "log_softmax", watched)
    hidden_NC, weight_VC, target_N, _ = inputs()
    logprobs_N, _ = ChunkedLogprobs.apply(hidden_NC.requires_grad_(), weight_VC, target_N, 1.0, 5)
    assert largest == 5
    (saved,) = logprobs_N.grad_fn.saved_tensors
    assert saved.shape == (N, C)
