"""Attention as a PyTorch operator: lse, dropout, layouts and errors.

attention_derivatives_torch_test.py has its gradients, kernels/compile_test.py its compilation.
"""

from typing import Any

import pytest
import torch

from kernels.attention import cases, torch_op
from kernels.attention.contract import Sizes
from kernels.attention.rope import Rope, RopeTables, rope_tables
from kernels.attention.shapes import FEATURES
from kernels.dispatch import UnsupportedKernelError
from kernels.testing.accuracy import sum_dtype, through_torch


def _tensors(
    q_shape: tuple[int, ...] = (2, 5, 4, 8),
    kv_shape: tuple[int, ...] = (2, 7, 2, 8),
    dtype: torch.dtype = torch.float64,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
        for shape in (q_shape, kv_shape, kv_shape)
    )


def test_lse_is_the_log_of_the_sum() -> None:
    q, k, v = _tensors()
    lse = torch_op.attention(q, k, v, softmax_scale=0.3, return_lse=True)[1]
    keys = k.repeat_interleave(2, dim=2)
    scores = 0.3 * torch.einsum("bihd,bjhd->bhij", q, keys)
    torch.testing.assert_close(lse, torch.logsumexp(scores, dim=-1))


def test_two_halves_of_the_keys_merge_through_lse() -> None:
    q, k, v = _tensors()
    inputs = (q, k, v)
    parts = [torch_op.attention(q, k[:, s], v[:, s], return_lse=True) for s in _HALVES]
    outs, lses = (torch.stack(x) for x in zip(*parts, strict=True))
    weights = torch.softmax(lses, dim=0).transpose(2, 3).unsqueeze(-1)
    merged = (weights * outs).sum(dim=0)
    whole = torch_op.attention(q, k, v)
    torch.testing.assert_close(merged, whole)
    expected = torch.autograd.grad(whole.square().sum(), inputs)
    for want, got in zip(expected, torch.autograd.grad(merged.square().sum(), inputs), strict=True):
        torch.testing.assert_close(got, want)


_HALVES = (slice(0, 3), slice(3, 7))


def test_slopes_per_head_and_per_row_agree() -> None:
    q, k, v = _tensors()
    slopes = torch.rand(4, dtype=torch.float64, requires_grad=True)
    rows = slopes.detach().expand(2, 4).clone().requires_grad_()
    outs = [torch_op.attention(q, k, v, alibi_slopes=s).square().sum() for s in (slopes, rows)]
    torch.testing.assert_close(outs[0], outs[1])
    (grad,), (row_grads,) = (
        torch.autograd.grad(o, s) for o, s in zip(outs, (slopes, rows), strict=True)
    )
    torch.testing.assert_close(grad, row_grads.sum(dim=0))


def test_dropout_drops_that_share_and_keeps_the_mean() -> None:
    # Values of one: each result is the share of probability that is kept, over 1 - rate.
    q, k = (torch.randn(4, 64, 8, 16, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    rate = 0.25
    out = torch_op.attention(
        q, k, torch.ones_like(k), softmax_scale=0.0, dropout_rate=rate, dropout_seed=1
    )
    kept = out[..., 0] * (1 - rate)
    deviation = (rate * (1 - rate) / (kept.numel() * 64)) ** 0.5
    assert abs(kept.mean().item() - (1 - rate)) < 5 * deviation
    # Each row drops independently: its share varies as that of 64 coins does.
    assert abs(kept.std().item() / (rate * (1 - rate) / 64) ** 0.5 - 1) < 0.1


def test_dropout_follows_the_seed() -> None:
    q, k, v = (x.detach() for x in _tensors((2, 40, 4, 8), (2, 40, 4, 8)))

    def run(seed: int | torch.Tensor) -> torch.Tensor:
        return torch_op.attention(q, k, v, dropout_rate=0.5, dropout_seed=seed)

    assert torch.equal(run(3), run(3))
    assert torch.equal(run(3), run(torch.tensor(3)))
    assert torch.equal(run(-1), run(2**32 - 1))
    assert not torch.equal(run(3), run(4))
    same = torch_op.attention(
        q[:1].repeat(2, 1, 1, 1),
        k[:1].repeat(2, 1, 1, 1),
        v[:1].repeat(2, 1, 1, 1),
        dropout_rate=0.5,
        dropout_seed=3,
    )
    assert not torch.equal(same[0], same[1]), "rows of a batch drop alike"


# The sums are of the dtype, and of another.
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_operators_are_well_formed(dtype: torch.dtype) -> None:
    q, k, v = _tensors(dtype=dtype)
    sums = sum_dtype(dtype)
    slopes = torch.rand(2, 4, dtype=sums, requires_grad=True)
    cos, sin = (torch.from_numpy(x).to(sums) for x in rope_tables(7, 8))
    segments = torch.zeros(2, 5, dtype=torch.int32), torch.zeros(2, 7, dtype=torch.int32)
    seeds = torch.tensor([1, 2], dtype=torch.int32)
    extras = (slopes, cos, sin, *segments, seeds)
    options = (0.5, 4, 1, 2.0, 0.1, 8, False, "cpu")
    torch.library.opcheck(torch.ops.hpc.attention_forward.default, (q, k, v, *extras, *options))
    detached = [x.detach() for x in (q, k, v)]
    extras = (slopes.detach(), *extras[1:])
    out, lse = torch.ops.hpc.attention_forward(*detached, *extras, *options)
    grads = torch.ones_like(out), torch.ones_like(lse)
    torch.library.opcheck(
        torch.ops.hpc.attention_backward.default,
        (*detached, out, lse, *grads, True, *extras, *options),
    )


def test_strided_inputs_and_gradients() -> None:
    # One tensor [batch, seq_len, 3, num_heads, head_dim], as a fused projection makes it.
    qkv = torch.randn(2, 9, 3, 4, 16, dtype=torch.float64, requires_grad=True)
    parts = qkv.unbind(dim=2)
    copies = [x.detach().clone().requires_grad_() for x in parts]
    # A sum has a gradient of stride 0.
    torch_op.attention(*parts).sum().backward()
    torch_op.attention(*copies).sum().backward()
    torch.testing.assert_close(qkv.grad, torch.stack([x.grad for x in copies], dim=2))


def test_inputs_at_odd_addresses() -> None:
    storage = torch.randn(1 + 2 * 5 * 4 * 8)
    q = storage[1:].view(2, 5, 4, 8)
    torch.testing.assert_close(torch_op.attention(q, q, q), torch_op.attention(*[q.clone()] * 3))


@pytest.mark.parametrize("causal", [False, True])
def test_agrees_with_torch(causal: bool) -> None:
    q, k, v = (x.detach() for x in _tensors((2, 70, 4, 32), (2, 70, 2, 32), torch.float32))
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (q, k, v)), is_causal=causal, enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(torch_op.attention(q, k, v, causal=causal), expected)


@pytest.mark.parametrize("scale", [0.0, -0.5, 2, None])
def test_softmax_scale(scale: float | None) -> None:
    q, k, v = _tensors()
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    # The plain implementation divides by the root of head_dim itself.
    folded = q.detach() * factor * q.shape[-1] ** 0.5
    expected = torch_op.attention(folded, k, v)
    torch.testing.assert_close(torch_op.attention(q, k, v, softmax_scale=scale), expected)


def test_reference_backend_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases.make_case(Sizes(2, 5, 7, 4, 2, 8), torch.float64, FEATURES["all"])
    expected = through_torch(case, torch_op.attention)
    monkeypatch.setenv("HPC_KERNEL_BACKEND", "reference")
    torch.testing.assert_close(through_torch(case, torch_op.attention), expected)


@pytest.mark.parametrize(
    ("q_shape", "kv_shape", "message"),
    [
        ((5, 4, 8), (2, 7, 4, 8), r"q must be \[batch, seq_len, num_heads, head_dim\]"),
        ((2, 5, 4, 8), (7, 4, 8), r"k must be \[batch, seq_len, num_heads, head_dim\]"),
        ((2, 5, 4, 8), (3, 7, 4, 8), r"agree with q in batch \(2\)"),
        ((2, 5, 4, 8), (2, 7, 4, 9), r"head_dim \(8\), got shape \(2, 7, 4, 9\)"),
        ((2, 5, 4, 8), (2, 7, 3, 8), "multiple of num_kv_heads, got 4 and 3"),
        ((2, 5, 4, 8), (2, 7, 8, 8), "multiple of num_kv_heads, got 4 and 8"),
        ((2, 5, 4, 0), (2, 7, 4, 0), "head_dim must be positive"),
    ],
)
def test_bad_shapes_are_named(
    q_shape: tuple[int, ...], kv_shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        torch_op.attention(*_tensors(q_shape, kv_shape))


def test_values_must_match_keys() -> None:
    q, k, v = _tensors()
    with pytest.raises(ValueError, match="v must have the shape of k"):
        torch_op.attention(q, k, v[:, :6])


def test_bad_dtypes_are_named() -> None:
    q, k, v = _tensors()
    with pytest.raises(TypeError, match="one dtype, got float64, float32 and float64"):
        torch_op.attention(q, k.float(), v)
    with pytest.raises(UnsupportedKernelError, match="does not support int32 on cpu"):
        torch_op.attention(*(torch.ones(1, 2, 1, 8, dtype=torch.int32) for _ in range(3)))
    with pytest.raises(UnsupportedKernelError, match="cpu on cpu: bfloat16, float16, float32"):
        torch_op.attention(*(x.to(torch.complex64) for x in (q, k, v)))


def test_bad_devices_are_named() -> None:
    q, k, v = _tensors()
    with pytest.raises(ValueError, match="one device, got cpu, meta and cpu"):
        torch_op.attention(q, k.to("meta"), v)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"softmax_scale": float("nan")}, "softmax_scale must be finite, got nan"),
        ({"window": (-1, None)}, "window's left must be 0 or more, or None for no limit, got -1"),
        ({"softcap": 0.0}, "softcap must be positive and finite, or None, got 0.0"),
        ({"dropout_rate": 1.0}, r"dropout_rate must be in \[0, 1\), got 1.0"),
        ({"dropout_rate": 0.1}, "dropout_rate > 0 needs a dropout_seed"),
        ({"dropout_seed": 1}, "dropout_seed is given, but dropout_rate is 0"),
        (
            {"dropout_rate": 0.1, "dropout_seed": torch.zeros(3, dtype=torch.int64)},
            r"dropout_seed must be an integer or \[batch\], \(2,\), got shape \(3,\)",
        ),
        ({"alibi_slopes": torch.ones(2)}, r"alibi_slopes must be \[num_heads\], \(4,\)"),
        ({"segment_ids": torch.zeros(2, 5)}, "must be a pair .* here 5 and 7"),
        (
            {"segment_ids": (torch.zeros(2, 5), torch.zeros(2, 6))},
            r"segment_ids of k must be \[batch, seq_len\], \(2, 7\), got shape \(2, 6\)",
        ),
        ({"rope": Rope(rotary_dim=10)}, r"from 2 to head_dim \(8\), got 10"),
        ({"rope": Rope(rotary_dim=3)}, "rotary_dim must be even"),
        ({"rope": Rope(base=0.0)}, "base must be positive, got 0.0"),
        ({"rope": RopeTables(torch.ones(6, 4), torch.ones(6, 4))}, "each of 7 positions, got 6"),
        ({"rope": RopeTables(torch.ones(7, 4), torch.ones(7, 3))}, "must both be"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        torch_op.attention(*_tensors(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"softmax_scale": torch.tensor(1.0)}, "softmax_scale must be a Python number"),
        ({"softcap": "5"}, "softcap must be a Python number or None, got str"),
        ({"window": 5}, r"window must be a pair \(left, right\) or None, got 5"),
        ({"window": (1.5, 2)}, "window's left must be an int or None, got float"),
        ({"dropout_rate": True}, "dropout_rate must be a Python number, got bool"),
        ({"rope": (1, 2)}, "rope must be Rope, RopeTables or None, got tuple"),
        (
            {"segment_ids": (torch.zeros(2, 5), torch.zeros(2, 7))},
            "segment_ids must be integers, got float32",
        ),
    ],
)
def test_options_of_a_wrong_type_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        torch_op.attention(*_tensors(), **options)
