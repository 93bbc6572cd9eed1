"""Attention on an NVIDIA GPU: the cubins, through torch and JAX, against float64.

Run by infra/gpu/run.sh, or by Bazel with --config=cuda. Without a GPU these tests fail.
"""

import jax
import pytest
import torch

from kernels.attention import cases, jax_op, torch_op
from kernels.attention.shapes import FEATURES, GRID, SIZE_FEATURES, TEST_SIZES
from kernels.dispatch import UnsupportedKernelError
from kernels.testing import accuracy, error_table, jax_run
from kernels.testing.accuracy import Case
from kernels.testing.error_table import ErrorTable
from kernels.testing.torch_run import Tensors

pytestmark = pytest.mark.gpu

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
TOO_WIDE = "head_dim up to 256, got 264"


table = error_table.fixture()


def _through_torch(case: Case) -> Tensors:
    return accuracy.through_torch(case, torch_op.attention, "cuda")


def _through_jax(case: Case) -> Tensors:
    return jax_run.through_jax(case, jax_op.attention)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("size", "features"), GRID, ids=map(", ".join, GRID))
def test_matches_float64(size: str, features: str, dtype: torch.dtype, table: ErrorTable) -> None:
    assert jax.default_backend() == "gpu", "JAX finds no GPU"
    case = cases.make_case(TEST_SIZES[size], dtype, FEATURES[features])
    runs = {"cubins through torch": _through_torch, "cubins through jax": _through_jax}
    table.check(f"{size}, {features}", case, runs)


@pytest.mark.parametrize("features", SIZE_FEATURES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_frameworks_agree_bit_for_bit(dtype: torch.dtype, features: str) -> None:
    case = cases.make_case(TEST_SIZES["grouped heads"], dtype, FEATURES[features])
    from_jax = _through_jax(case)
    for name, from_torch in _through_torch(case).items():
        if name != "grad_slopes":  # The frameworks themselves add up the queries.
            assert torch.equal(from_torch.cpu(), from_jax[name]), name


@pytest.mark.parametrize("features", SIZE_FEATURES)
def test_runs_are_deterministic(features: str) -> None:
    case = cases.make_case(TEST_SIZES["long"], torch.bfloat16, FEATURES[features])
    first = _through_torch(case)
    for _ in range(10):
        for name, got in _through_torch(case).items():
            assert torch.equal(first[name], got), name


def test_uses_the_current_stream() -> None:
    q = torch.randn(1, 512, 4, 64, device="cuda", dtype=torch.bfloat16)
    expected = torch_op.attention(q, q, q)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        got = torch_op.attention(q, q, q)
    stream.synchronize()
    assert torch.equal(expected, got)


def test_unsupported_problems_are_named() -> None:
    q = torch.zeros(1, 4, 1, 264, device="cuda")
    with pytest.raises(UnsupportedKernelError, match=TOO_WIDE):
        torch_op.attention(q, q, q)
    with pytest.raises(UnsupportedKernelError, match="does not support float64 on cuda"):
        torch_op.attention(*[q.double()] * 3)
    with pytest.raises(UnsupportedKernelError, match=TOO_WIDE):
        jax_op.attention(*[jax.numpy.zeros((1, 4, 1, 264))] * 3)
