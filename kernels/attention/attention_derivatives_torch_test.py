"""Derivatives of attention in PyTorch, of every order and in every direction, and torch.func.

The oracles are finite differences of the kernels, and PyTorch's own attention.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from kernels.attention import torch_calls
from kernels.attention.rope import Rope, RopeTables, rope_tables
from kernels.attention.torch_op import attention

Function = Callable[[torch.Tensor], torch.Tensor]

# Of each kind of option one, for [2, 3] queries and [2, 4] keys.
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"softmax_scale": 0.7},
    "causal": {"causal": True},
    "rope": {"rope": Rope(100.0, 2, 2)},
    "rope interleaved": {"rope": Rope(100.0, 2, interleaved=True)},
    "tables": {"rope": RopeTables(*map(torch.from_numpy, rope_tables(5, 4)))},
    "window": {"window": (1, 0)},
    "segments": {
        "segment_ids": (torch.tensor([[0, 1, -1]] * 2), torch.tensor([[0, 0, 1, -1]] * 2))
    },
    "softcap": {"softcap": 0.8},
    "dropout": {"dropout_rate": 0.4, "dropout_seed": torch.tensor([5, -7])},
}
OPTIONS["all"] = {key: value for options in OPTIONS.values() for key, value in options.items()}


def _tensors(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_order_and_direction(options: dict[str, Any]) -> None:
    """Forward mode, gradients of gradients, forward over reverse, and batches of each."""

    def with_lse(q, k, v, slopes):  # type: ignore[no-untyped-def]
        out, lse = attention(q, k, v, alibi_slopes=slopes, return_lse=True, **options)
        return out, lse.masked_fill(lse.isinf(), 0.0)

    inputs = [
        x.requires_grad_() for x in _tensors((2, 3, 2, 4), (2, 4, 1, 4), (2, 4, 1, 4), (2, 2))
    ]
    assert torch.autograd.gradcheck(
        with_lse, inputs, check_forward_ad=True, check_batched_grad=True, fast_mode=True
    )
    assert torch.autograd.gradgradcheck(
        with_lse, inputs, check_fwd_over_rev=True, check_batched_grad=True, fast_mode=True
    )


def _loss(function: Function) -> Function:
    return lambda x: function(x).pow(3).sum()


# What torch.func makes of a function of q, at q and in a direction.
TRANSFORMS: dict[str, Callable[[Function, torch.Tensor, torch.Tensor], Any]] = {
    "jvp": lambda f, q, t: torch.func.jvp(f, (q,), (t,)),
    "linearize": lambda f, q, t: torch.func.linearize(f, q)[1](t),
    "grad": lambda f, q, t: torch.func.grad(_loss(f))(q),
    "vjp": lambda f, q, t: torch.func.vjp(f, q)[1](t),
    "jacrev": lambda f, q, t: torch.func.jacrev(f)(q),
    "jacfwd": lambda f, q, t: torch.func.jacfwd(f)(q),
    "hessian": lambda f, q, t: torch.func.hessian(_loss(f))(q),
    "reverse over reverse": lambda f, q, t: torch.func.jacrev(torch.func.jacrev(_loss(f)))(q),
    "reverse over forward": lambda f, q, t: torch.func.jacrev(torch.func.jacfwd(_loss(f)))(q),
    "forward over forward": lambda f, q, t: torch.func.jacfwd(torch.func.jacfwd(_loss(f)))(q),
    "third": lambda f, q, t: torch.func.grad(
        lambda x: torch.func.jvp(torch.func.grad(_loss(f)), (x,), (t,))[1].square().sum()
    )(q),
    "vmap": lambda f, q, t: torch.vmap(f, in_dims=1, out_dims=2)(torch.stack([q, t], dim=1)),
    "vmap of grad": lambda f, q, t: torch.vmap(torch.func.grad(_loss(f)))(torch.stack([q, t])),
    "grad of vmap": lambda f, q, t: torch.func.grad(_loss(torch.vmap(f)))(torch.stack([q, t])),
    "vmap of jvp": lambda f, q, t: torch.vmap(lambda x: torch.func.jvp(f, (q,), (x,))[1])(
        torch.stack([q, t])
    ),
    "vmap of hessian": lambda f, q, t: torch.vmap(torch.func.hessian(_loss(f)))(
        torch.stack([q, t])
    ),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms_are_those_of_torchs_attention(transform: Callable[..., Any]) -> None:
    q, t, k, v = _tensors((2, 3, 2, 4), (2, 3, 2, 4), (2, 3, 1, 4), (2, 3, 1, 4))

    def theirs(x: torch.Tensor) -> torch.Tensor:
        heads_first = (y.transpose(1, 2) for y in (x, k, v))
        return F.scaled_dot_product_attention(
            *heads_first, is_causal=True, enable_gqa=True
        ).transpose(1, 2)

    with sdpa_kernel(SDPBackend.MATH):
        expected = transform(theirs, q, t)
    torch.testing.assert_close(transform(lambda x: attention(x, k, v, causal=True), q, t), expected)


def test_the_tangent_of_the_issue() -> None:
    q, t, k, v = _tensors((2, 5, 4, 4), (2, 5, 4, 4), (2, 7, 2, 4), (2, 7, 2, 4))
    tangent = torch.func.jvp(lambda a: attention(a, k, v), (q,), (t,))[1]
    step = 1e-6
    difference = attention(q + step * t, k, v) - attention(q - step * t, k, v)
    assert tangent.abs().max() > 0.1
    torch.testing.assert_close(tangent, difference / (2 * step), rtol=1e-6, atol=1e-8)
    with forward_ad.dual_level():
        out = attention(forward_ad.make_dual(q, t), k, v)
        torch.testing.assert_close(forward_ad.unpack_dual(out).tangent, tangent)


MAPPED = {
    "slopes": (torch.tensor([[0.5, 0.1], [0.2, -0.3]]), lambda x: {"alibi_slopes": x}),
    "segments": (
        torch.tensor([[[0, 0, 1], [0, 1, 1]], [[0, 0, 0], [1, 1, -1]]]),
        lambda x: {"segment_ids": x},
    ),
    "seeds": (torch.tensor([3, 4]), lambda x: {"dropout_rate": 0.5, "dropout_seed": x}),
    "tables": (
        torch.stack([torch.from_numpy(rope_tables(3, 4, offset=n)[0]) for n in (0, 5)]),
        lambda x: {"rope": RopeTables(x, x)},
    ),
}


@pytest.mark.parametrize(("values", "option"), MAPPED.values(), ids=MAPPED)
def test_maps_over_what_is_not_q(values: torch.Tensor, option: Callable[..., Any]) -> None:
    q, k, v = _tensors((2, 3, 2, 4), (2, 3, 1, 4), (2, 3, 1, 4))

    def grad(x: torch.Tensor) -> torch.Tensor:
        return torch.func.grad(_loss(lambda y: attention(y, k, v, **option(x))))(q)

    expected = torch.stack([grad(x) for x in values])
    torch.testing.assert_close(torch.vmap(grad)(values), expected)


def test_vmap_over_nothing_gives_nothing() -> None:
    """Over tables of RoPE too, which are no part of the batch."""
    q = torch.ones(1, 2, 2, 4)
    out = torch.vmap(lambda k: attention(q, k, q))(torch.ones(0, 1, 2, 2, 4))
    assert out.shape == (0, *q.shape)
    out = torch.vmap(lambda t: attention(q, q, q, rope=RopeTables(t, t)))(torch.ones(0, 2, 2))
    assert out.shape == (0, *q.shape)


def test_first_gradients_are_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """No formula where a kernel fits, under torch.func too."""

    def refuse(*_: Any) -> None:
        raise AssertionError("the formula ran")

    monkeypatch.setattr(torch_calls.formula_torch, "attention", refuse)
    q, k, v = _tensors((2, 3, 2, 4), (2, 3, 1, 4), (2, 3, 1, 4))
    loss = _loss(lambda x: attention(x, k, v, rope=Rope(), dropout_rate=0.1, dropout_seed=1))
    torch.func.grad(loss)(q)
    torch.vmap(torch.func.grad(loss))(torch.stack([q, q]))
    loss(q.requires_grad_()).backward()


def test_autocast_is_that_of_torchs_attention() -> None:
    q, k, v = (x.requires_grad_() for x in _tensors(*[(2, 3, 2, 4)] * 3, dtype=torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        ours = attention(q, k, v)
        theirs = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)))
        # One already in the lower precision, as a linear layer under autocast gives it.
        mixed = attention(q.bfloat16(), k, v)
        double = attention(*(x.double() for x in (q, k, v)))
    assert (ours.dtype, mixed.dtype, double.dtype) == (
        theirs.dtype,
        torch.bfloat16,
        torch.float64,
    )
    torch.testing.assert_close(ours, theirs.transpose(1, 2), rtol=2**-7, atol=2**-7)
    (grad,) = torch.autograd.grad(ours.sum(), q, create_graph=True)
    assert grad.dtype == torch.float32
    assert torch.autograd.grad(grad.square().sum(), q)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision(dtype: torch.dtype) -> None:
    """Second derivatives in each dtype are those of float64, rounded."""
    exact = _tensors((1, 5, 2, 8), (1, 5, 2, 8), (1, 5, 2, 8), (1, 5, 2, 8))
    exact = [x.to(dtype).double() for x in exact]

    def curvature(q, t, k, v):  # type: ignore[no-untyped-def]
        gradient = torch.func.grad(lambda x: attention(x, k, v).square().sum())
        return torch.func.jvp(gradient, (q,), (t,))[1]

    expected = curvature(*exact)
    tolerance = 16 * torch.finfo(dtype).eps * expected.abs().max().item()
    got = curvature(*(x.to(dtype) for x in exact)).double()
    torch.testing.assert_close(got, expected, rtol=0.0, atol=tolerance)


def test_what_takes_no_part_may_be_infinite() -> None:
    q, k, v, t = _tensors(*[(1, 5, 2, 4)] * 4)
    ids = torch.tensor([[0, 0, 0, 0, -1]])
    q[:, 4], k[:, 4], v[:, 4] = torch.inf, torch.nan, torch.inf
    _, tangent = torch.func.jvp(lambda x: attention(q, k, x, segment_ids=ids), (v,), (t,))
    expected = attention(q[:, :4], k[:, :4], t[:, :4])
    torch.testing.assert_close(tangent[:, :4], expected)
    assert not tangent[:, 4].any()
    # Nor does the gradient of what is no result count, in derivatives of gradients.
    t[:, 4] = torch.inf
    _, vjp = torch.func.vjp(lambda x: _grad_of_squares(q, x, v, t, ids), k)
    (change,) = vjp(torch.ones_like(k))
    less = [x[:, :4] for x in (q, k, v, t)]
    _, vjp = torch.func.vjp(lambda x: _grad_of_squares(less[0], x, *less[2:], None), less[1])
    torch.testing.assert_close(change[:, :4], vjp(torch.ones_like(less[1]))[0])
    assert not change[:, 4].any()


def _grad_of_squares(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, t: torch.Tensor, ids: torch.Tensor | None
) -> torch.Tensor:
    _, vjp = torch.func.vjp(lambda x: attention(q, x, v, segment_ids=ids), k)
    return vjp(t)[0]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64])
def test_unsigned_segment_ids(dtype: torch.dtype) -> None:
    q, k, v, t = _tensors(*[(1, 5, 2, 4)] * 4)
    ids = torch.tensor([[0, 0, 1, 1, 2]])
    changes = [
        torch.func.jvp(lambda x, ids=ids: _grad_of_squares(q, x, v, t, ids), (k,), (t,))[1]
        for ids in (ids, ids.to(dtype))
    ]
    torch.testing.assert_close(*changes, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("seq_lens", [(0, 3), (3, 0)])
def test_empty_problems(seq_lens: tuple[int, int]) -> None:
    q, k, v = (torch.zeros(1, n, 1, 4, dtype=torch.float64) for n in (*seq_lens, seq_lens[1]))
    hessian = torch.func.hessian(lambda x: attention(x, k, v).sum())(q)
    assert hessian.shape == q.shape * 2 and not hessian.any()
