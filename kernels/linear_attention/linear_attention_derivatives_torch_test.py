"""Derivatives of linear attention in PyTorch, of every order and direction, and torch.func.

The oracle is finite differences of the kernels.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad

from kernels.linear_attention import torch_calls
from kernels.linear_attention.contract import State
from kernels.linear_attention.torch_op import linear_attention, linear_attention_step


def _tensors(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


def _inputs() -> list[torch.Tensor]:
    """q, k, v, decay, and an initial state: 4 tokens, 2 heads over 1."""
    q, k, v, kv, k_sum = _tensors((2, 4, 2, 3), (2, 4, 1, 3), (2, 4, 1, 2), (2, 2, 3, 2), (2, 2, 3))
    decay = torch.tensor([0.5, 0.9], dtype=torch.float64)
    return [x.requires_grad_() for x in (q, k, v, decay, kv, k_sum.abs())]


OPTIONS: dict[str, dict[str, Any]] = {
    "elu": {},
    "relu": {"feature_map": "relu", "normalize": False},
    "identity": {"feature_map": "identity", "normalize": False, "scale": 0.7},
}


def _check(function: Callable[..., Any], inputs: list[torch.Tensor]) -> None:
    assert torch.autograd.gradcheck(
        function, inputs, check_forward_ad=True, check_batched_grad=True, fast_mode=True
    )
    assert torch.autograd.gradgradcheck(
        function, inputs, check_fwd_over_rev=True, check_batched_grad=True, fast_mode=True
    )


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_order_and_direction(options: dict[str, Any]) -> None:
    def causal(q, k, v, decay, *state):  # type: ignore[no-untyped-def]
        out, after = linear_attention(
            q, k, v, decay=decay, initial_state=State(*state), return_state=True, **options
        )
        return out, *after

    _check(causal, _inputs())


def test_without_a_mask() -> None:
    _check(lambda q, k, v: linear_attention(q, k, v, causal=False), _inputs()[:3])


def test_steps() -> None:
    def step(q, k, v, decay, *state):  # type: ignore[no-untyped-def]
        out, after = linear_attention_step(State(*state), q[:, 0], k[:, 0], v[:, 0], decay=decay)
        return out, *after

    _check(step, _inputs())


def test_the_tangent_of_a_dual_number() -> None:
    q, t, k, v = _tensors((2, 5, 4, 3), (2, 5, 4, 3), (2, 5, 2, 3), (2, 5, 2, 2))
    step = 1e-6
    difference = linear_attention(q + step * t, k, v) - linear_attention(q - step * t, k, v)
    with forward_ad.dual_level():
        out = linear_attention(forward_ad.make_dual(q, t), k, v)
        tangent = forward_ad.unpack_dual(out).tangent
    torch.testing.assert_close(tangent, difference / (2 * step), rtol=1e-6, atol=1e-8)


def test_per_sample_gradients_are_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the formula ran")

    monkeypatch.setattr(torch_calls.formula_torch, "linear_attention", refuse)
    q, k, v, decay, *_ = (x.detach() for x in _inputs())

    def gradients(q: torch.Tensor, decay: torch.Tensor) -> tuple[torch.Tensor, ...]:
        def loss(q: torch.Tensor, decay: torch.Tensor) -> torch.Tensor:
            return linear_attention(q, k, v, decay=decay).square().sum()

        grads: tuple[torch.Tensor, ...] = torch.func.grad(loss, argnums=(0, 1))(q, decay)
        return grads

    qs, decays = torch.stack([q, 2 * q, -q]), torch.stack([decay, decay**2, decay**3])
    expected = [gradients(q, decay) for q, decay in zip(qs, decays, strict=True)]
    got = torch.vmap(gradients)(qs, decays)
    for have, want in zip(got, zip(*expected, strict=True), strict=True):
        torch.testing.assert_close(have, torch.stack(want))


def test_vmap_over_nothing_gives_nothing() -> None:
    q, k, v = _tensors((0, 2, 4, 2, 3), (2, 4, 1, 3), (2, 4, 1, 2))
    q.requires_grad_()
    out = torch.vmap(lambda q: linear_attention(q, k, v))(q)
    assert out.shape == (0, 2, 4, 2, 2)
    assert torch.autograd.grad(out.sum(), q)[0].shape == q.shape


def test_autocast() -> None:
    q, k, v = (x.float() for x in _tensors((1, 3, 2, 4), (1, 3, 2, 4), (1, 3, 2, 4)))
    with torch.autocast("cpu", torch.bfloat16):
        out = linear_attention(q, k, v)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, linear_attention(*(x.bfloat16() for x in (q, k, v))))
