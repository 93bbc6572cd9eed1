"""What is not seen is not there: infinities and NaN in padding, or hidden by a mask, show nowhere.

As attention_test.py, by the environment for any backend.
"""

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import torch

from kernels.attention import _native, equality, torch_op
from kernels.attention.contract import Sizes
from kernels.attention.equality import Case
from kernels.attention.shapes import FEATURES, FULL, Features

jax.config.update("jax_enable_x64", True)


def _missing_instructions() -> str:
    """What HPC_CPU_ISA asks for in vain on this CPU."""
    try:
        _native.cpu_isa()
    except ValueError as error:
        return str(error)
    return ""


MISSING = _missing_instructions()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

IS_TRITON = os.environ.get("HPC_KERNEL_BACKEND") == "triton"
DTYPES = [torch.float32, torch.float16]
if not IS_TRITON:
    DTYPES += [torch.float64, torch.bfloat16]

# Largest error of a result of size 1 or so, by the roundings of the dtype: see `equality` for bars
# that are exact.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-5,
    torch.float16: 2e-2,
    torch.bfloat16: 1e-1,
}

# Padding of 3 tokens after `n`, within a tile and in tiles of its own.
LENGTHS = {"one tile": (9, 3), "several tiles": (70, 75)}
PADDED_FEATURES = {
    name: FEATURES[name]
    for name in ("full", "causal", "alibi causal", "rope", "window", "softcap", "dropout")
} | {"all": FEATURES["all"]._replace(segments=False)}


def _padded(case: Case, padding: int, odd_one: float) -> Case:
    """The case with `padding` tokens of segment -1 after its own, which all are `odd_one`."""

    def pad(x: torch.Tensor, dim: int) -> torch.Tensor:
        shape = list(x.shape)
        shape[dim] = padding
        return torch.cat((x, x.new_full(shape, odd_one)), dim=dim)

    length = case.sizes.seq_q
    ids = torch.full((case.sizes.batch, length + padding), -1, dtype=torch.int32)
    ids[:, :length] = 7
    return case._replace(
        sizes=case.sizes._replace(seq_q=length + padding, seq_k=length + padding),
        q=pad(case.q, 1),
        k=pad(case.k, 1),
        v=pad(case.v, 1),
        grad_out=pad(case.grad_out, 1),
        grad_lse=pad(case.grad_lse, 2),
        segments=(ids, ids),
    )


def _check_padding(case: Case, padding: int, run: equality.Runner) -> None:
    """Padding that is infinite or no number is as none, and gives zeros."""
    expected = equality.expect(case)
    bars = equality.allowed(case, expected)

    def extend(name: str, x: np.ndarray) -> np.ndarray:
        if name == "grad_slopes":
            return x
        axis = 2 if name == "lse" else 1
        width = [(0, padding if i == axis else 0) for i in range(x.ndim)]
        return np.pad(x, width, constant_values=-np.inf if name == "lse" else 0.0)

    wanted = tuple(extend(*pair) for pair in zip(equality.NAMES, expected, strict=False))
    for odd_one in (np.inf, np.nan):
        found = equality.errors(_padded(case, padding, odd_one), run, wanted)
        for name, error in found.items():
            assert error <= bars[name], f"{name} is off by {error} for padding of {odd_one}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("features", PADDED_FEATURES.values(), ids=PADDED_FEATURES.keys())
def test_padding_is_as_none(
    features: Features, lengths: tuple[int, int], dtype: torch.dtype
) -> None:
    length, padding = lengths
    case = equality.make_case(Sizes(2, length, length, 4, 2, 32), dtype, features)
    _check_padding(case, padding, equality.through_torch)


@pytest.mark.skipif(IS_TRITON, reason="the interpreter serves torch")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_padding_is_as_none_in_jax(dtype: torch.dtype) -> None:
    case = equality.make_case(Sizes(2, 20, 20, 4, 2, 32), dtype, PADDED_FEATURES["all"])
    _check_padding(case, 5, equality.through_jax)


@pytest.mark.skipif(IS_TRITON, reason="another backend")
@pytest.mark.parametrize("features", PADDED_FEATURES.values(), ids=PADDED_FEATURES.keys())
def test_padding_is_as_none_to_the_specification(
    features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_KERNEL_BACKEND", "reference")
    case = equality.make_case(Sizes(1, 9, 9, 2, 1, 8), torch.float64, features)
    _check_padding(case, 3, equality.through_torch)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_infinite_value_of_padding(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 5, 1, 8, generator=generator).to(dtype) for _ in range(3))
    v[0, 4] = torch.inf
    out = torch_op.attention(q, k, v, segment_ids=torch.tensor([[0, 0, 0, 0, -1]]))
    scores = torch.einsum("qd,kd->qk", q[0, :4, 0].double(), k[0, :4, 0].double()) / 8**0.5
    expected = scores.softmax(dim=-1) @ v[0, :4, 0].double()
    torch.testing.assert_close(out[0, :4, 0].double(), expected, rtol=0, atol=TOLERANCE[dtype])
    assert torch.equal(out[0, 4], torch.zeros_like(out[0, 4]))


# What follows holds for the specification and on the CPU; docs/kernels.md says how it is on CUDA.

MASKS: dict[str, Callable[[int, int], torch.Tensor]] = {
    "causal": lambda i, j: j <= i,
    "window": lambda i, j: (i - 5 <= j) & (j <= i + 40),
    "segments": lambda i, j: i // 20 % 3 == j // 20 % 3,
}


def _options(mask: str, length: int) -> dict[str, Any]:
    ids = torch.arange(length)[None] // 20 % 3
    options: dict[str, dict[str, Any]] = {
        "causal": {"causal": True},
        "window": {"window": (5, 40)},
        "segments": {"segment_ids": ids},
    }
    return options[mask]


def _one_query_at_a_time(
    leaves: list[torch.Tensor], grad_out: torch.Tensor, seen: torch.Tensor
) -> list[torch.Tensor]:
    """Out and gradients of one head, [S, D]: each query with the keys alone that it sees."""
    q, k, v = leaves
    rows = []
    for i in range(q.shape[0]):
        keys = torch.nonzero(seen[i])[:, 0]
        rows.append((q[i] @ k[keys].T / q.shape[1] ** 0.5).softmax(dim=-1) @ v[keys])
    grads = [torch.zeros_like(x) for x in leaves]
    for i, row in enumerate(rows):
        # Indices of the gradient of a choice are those chosen: nobody else gets a NaN.
        parts = torch.autograd.grad(row, leaves, grad_out[i], retain_graph=True)
        keys = torch.nonzero(seen[i])[:, 0]
        grads[0][i] += parts[0][i]
        for grad, part in zip(grads[1:], parts[1:], strict=True):
            grad[keys] += part[keys]
    return [torch.stack(rows).detach(), *grads]


@pytest.mark.skipif(IS_TRITON, reason="tiles of the GPU's kernels spread it, docs/kernels.md")
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("where", ["q", "k", "v", "grad_out"])
@pytest.mark.parametrize("mask", MASKS)
def test_odd_one_shows_where_it_is_seen_and_only_there(
    mask: str, where: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_KERNEL_BACKEND", backend)
    length, width = 90, 8
    generator = torch.Generator().manual_seed(0)
    index = torch.arange(length)
    seen = MASKS[mask](index[:, None], index[None])  # type: ignore[arg-type]
    for dtype in DTYPES if backend == "cpu" else [torch.float64]:
        arrays = {
            name: torch.randn(length, width, generator=generator, dtype=torch.float64).to(dtype)
            for name in ("q", "k", "v", "grad_out")
        }
        arrays[where][63] = torch.nan
        arrays[where][75, 3] = torch.inf
        doubles = {name: x.double() for name, x in arrays.items()}
        grad_out = doubles.pop("grad_out")
        wide = [x.requires_grad_() for x in doubles.values()]
        wanted = _one_query_at_a_time(wide, grad_out, seen)
        leaves = [arrays[x][None, :, None].clone().requires_grad_() for x in ("q", "k", "v")]
        out = torch_op.attention(*leaves, **_options(mask, length))
        grads = torch.autograd.grad(out, leaves, arrays["grad_out"][None, :, None])
        for name, got, want in zip(("out", "q", "k", "v"), (out, *grads), wanted, strict=True):
            result = got[0, :, 0].detach().double()
            shown, there = ~result.isfinite(), ~want.isfinite()
            assert torch.equal(shown, there), f"{name} of {dtype}"
            torch.testing.assert_close(result[~there], want[~there], rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.skipif(IS_TRITON, reason="as above")
def test_rows_that_see_nothing_take_part_in_no_gradient() -> None:
    # Causal with more queries than keys: the first see nothing.
    case = equality.make_case(Sizes(1, 50, 20, 2, 1, 16), torch.float32, Features(causal=True))
    expected = equality.expect(case)
    bars = equality.allowed(case, expected)
    case.q[:, :30], case.grad_out[:, :30], case.grad_lse[..., :30] = torch.nan, torch.inf, torch.nan
    for name, error in equality.errors(case, equality.through_torch, expected).items():
        assert error <= bars[name], f"{name} is off by {error}"


def test_nan_that_is_seen_stays() -> None:
    case = equality.make_case(Sizes(1, 20, 20, 1, 1, 16), torch.float32, FULL)
    case.v[0, 7, 0, 2] = torch.nan
    ids = torch.zeros(1, 20, dtype=torch.int64)
    ids[0, 15:] = -1
    arrays = (x.float() for x in (case.q, case.k, case.v))
    out = torch_op.attention(*arrays, segment_ids=ids)
    assert out[0, :15, 0, 2].isnan().all()
    assert not out[0, 15:].isnan().any()
    assert not out[0, :, 0, :2].isnan().any()
