"""Padding is as if it were not there, also if it holds infinities and NaN.

As attention_test.py, by the environment for any backend; attention_jax_test.py shows it of JAX.
"""

import dataclasses
import itertools
import os

import numpy as np
import pytest
import torch

from kernels.attention import _native, cases, torch_op
from kernels.attention.cases import Case
from kernels.attention.contract import Sizes
from kernels.attention.shapes import FEATURES, FULL, Features
from kernels.testing import instruction_sets
from kernels.testing.accuracy import expect, through_torch

pytestmark = instruction_sets.skip_where_missing(_native)

IS_TRITON = os.environ.get("HPC_KERNEL_BACKEND") == "triton"
DTYPES = [torch.float32, torch.float16]
if not IS_TRITON:
    DTYPES += [torch.float64, torch.bfloat16]

# Largest error of an output of size 1 or so, by the roundings of the dtype.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 1e-2,
    torch.bfloat16: 5e-2,
}

# Tokens and padding after them: within a tile, and in tiles of its own too.
ONE_TILE, SEVERAL_TILES = (9, 3), (70, 75)
PADDED_FEATURES = {
    name: FEATURES[name]
    for name in ("full", "causal", "alibi causal", "rope", "window", "softcap", "dropout")
} | {"all": FEATURES["all"]._replace(segments=False)}
if IS_TRITON:
    # The interpreter takes about a millisecond for each operation on a block.
    CASES = [
        ("full", ONE_TILE, torch.float32),
        ("causal", ONE_TILE, torch.float16),
        ("all", ONE_TILE, torch.float32),
        ("all", (40, 35), torch.float16),
    ]
else:
    CASES = list(itertools.product(PADDED_FEATURES, (ONE_TILE, SEVERAL_TILES), DTYPES))


def _padded(case: Case, padding: int, odd_one: float) -> Case:
    """The case with `padding` tokens of segment -1 after its own, which all are `odd_one`."""

    def pad(x: torch.Tensor, dim: int) -> torch.Tensor:
        shape = list(x.shape)
        shape[dim] = padding
        return torch.cat((x, x.new_full(shape, odd_one)), dim=dim)

    length = case.sizes.seq_q
    ids = torch.full((case.sizes.batch, length + padding), -1, dtype=torch.int32)
    ids[:, :length] = 7
    return dataclasses.replace(
        case,
        sizes=case.sizes._replace(seq_q=length + padding, seq_k=length + padding),
        inputs={name: x if name == "slopes" else pad(x, 1) for name, x in case.inputs.items()},
        cotangents={"out": pad(case.cotangents["out"], 1), "lse": pad(case.cotangents["lse"], 2)},
        segments=(ids, ids),
    )


def _check_padding(case: Case, padding: int) -> None:
    """Padding that is infinite or no number is as none, and gives zeros."""
    expected = expect(case)

    def extend(name: str, x: np.ndarray) -> np.ndarray:
        if name == "grad_slopes":
            return x
        axis = 2 if name == "lse" else 1
        width = [(0, padding if i == axis else 0) for i in range(x.ndim)]
        return np.pad(x, width, constant_values=-np.inf if name == "lse" else 0.0)

    extended = expected._replace(want={name: extend(name, x) for name, x in expected.want.items()})
    for odd_one in (np.inf, np.nan):
        padded = _padded(case, padding, odd_one)
        extended.check(through_torch(padded, torch_op.attention), f"padding of {odd_one}")


@pytest.mark.parametrize(("features", "lengths", "dtype"), CASES, ids=str)
def test_padding_is_as_none(features: str, lengths: tuple[int, int], dtype: torch.dtype) -> None:
    length, padding = lengths
    sizes = Sizes(1 if IS_TRITON else 2, length, length, 2, 1, 32)
    case = cases.make_case(sizes, dtype, PADDED_FEATURES[features])
    _check_padding(case, padding)


@pytest.mark.parametrize("features", PADDED_FEATURES.values(), ids=PADDED_FEATURES.keys())
def test_padding_is_as_none_to_the_specification(
    features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_KERNEL_BACKEND", "reference")
    case = cases.make_case(Sizes(1, 9, 9, 2, 1, 8), torch.float64, features)
    _check_padding(case, 3)


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


def test_nan_that_is_seen_stays() -> None:
    case = cases.make_case(Sizes(1, 20, 20, 1, 1, 16), torch.float32, FULL)
    case.inputs["v"][0, 7, 0, 2] = torch.nan
    ids = torch.zeros(1, 20, dtype=torch.int64)
    ids[0, 15:] = -1
    arrays = (x.float() for x in case.inputs.values())
    out = torch_op.attention(*arrays, segment_ids=ids)
    assert out[0, :15, 0, 2].isnan().all()
    assert not out[0, 15:].isnan().any()
    assert not out[0, :, 0, :2].isnan().any()
