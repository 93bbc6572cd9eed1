"""Attention on an NVIDIA GPU: the cubins, through torch and JAX, against float64.

Run by infra/gpu/run.sh, or by Bazel with --config=cuda. Without a GPU these tests fail.
"""

from collections.abc import Iterator

import jax
import pytest
import torch

from kernels.attention import equality, jax_op, torch_op
from kernels.attention.equality_jax import through_jax
from kernels.attention.shapes import FEATURES, GRID, SIZE_FEATURES, TEST_SIZES
from kernels.dispatch import UnsupportedKernelError

pytestmark = pytest.mark.gpu

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
TOO_WIDE = "head_dim up to 256, got 264"


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[equality.Table]:
    """Collects the errors and prints them into the log, of a passing run too."""
    collected = equality.Table()
    yield collected
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(collected)


def _through_torch(case: equality.Case) -> tuple[torch.Tensor, ...]:
    return equality.through_torch(case, "cuda")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("size", "features"), GRID, ids=map(", ".join, GRID))
def test_matches_float64(
    size: str, features: str, dtype: torch.dtype, table: equality.Table
) -> None:
    assert jax.default_backend() == "gpu", "JAX finds no GPU"
    case = equality.make_case(TEST_SIZES[size], dtype, FEATURES[features])
    bars = equality.allowed(case)
    table.add("plain torch", dtype, equality.errors(case, equality.plain))
    for name, run in (("torch", _through_torch), ("jax", through_jax)):
        found = equality.errors(case, run)
        table.add(f"cubins through {name}", dtype, found)
        for result, error in found.items():
            assert error <= bars[result], f"{name}: {result} is off by {error}, not {bars[result]}"


@pytest.mark.parametrize("features", SIZE_FEATURES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_frameworks_agree_bit_for_bit(dtype: torch.dtype, features: str) -> None:
    case = equality.make_case(TEST_SIZES["grouped heads"], dtype, FEATURES[features])
    results = zip(equality.NAMES, _through_torch(case), through_jax(case), strict=False)
    for name, from_torch, from_jax in results:
        if name != "grad_slopes":  # The frameworks themselves add up the queries.
            assert torch.equal(from_torch.cpu(), from_jax.cpu()), name


@pytest.mark.parametrize("features", SIZE_FEATURES)
def test_runs_are_deterministic(features: str) -> None:
    case = equality.make_case(TEST_SIZES["long"], torch.bfloat16, FEATURES[features])
    first = _through_torch(case)
    for _ in range(10):
        for expected, got in zip(first, _through_torch(case), strict=True):
            assert torch.equal(expected, got)


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
