"""Attention on an NVIDIA GPU: the cubins, through torch and JAX, against float64.

Run by infra/gpu/run.sh, or by Bazel with --config=cuda. Without a GPU these tests fail.
"""

from collections.abc import Iterator

import jax
import pytest
import torch

from kernels.attention import equality, jax_op, torch_op
from kernels.attention.contract import TRITON_MAX_HEAD_DIM, Sizes
from kernels.attention.shapes import TEST_SIZES
from kernels.dispatch import UnsupportedKernelError

pytestmark = pytest.mark.gpu

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
SIZES = {n: s for n, s in TEST_SIZES.items() if s.head_dim <= TRITON_MAX_HEAD_DIM}


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[equality.Table]:
    """Collects the errors and prints them into the log, of a passing run too."""
    collected = equality.Table()
    yield collected
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(collected)


def _on_gpu(run: equality.Runner) -> equality.Runner:
    def moved(*inputs: torch.Tensor | bool) -> tuple[torch.Tensor, ...]:
        *tensors, causal = inputs
        return run(*(x.cuda() for x in tensors), causal)

    return moved


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_matches_float64(
    sizes: Sizes, dtype: torch.dtype, causal: bool, table: equality.Table
) -> None:
    assert jax.default_backend() == "gpu", "JAX finds no GPU"
    case = equality.make_case(sizes, dtype, causal)
    bars = equality.allowed(case)
    table.add("plain torch", dtype, equality.errors(case, equality.plain))
    for name, run in (("torch", equality.through_torch), ("jax", equality.through_jax)):
        found = equality.errors(case, _on_gpu(run))
        table.add(f"cubins through {name}", dtype, found)
        for result, error in found.items():
            assert error <= bars[result], f"{name}: {result} is off by {error}, not {bars[result]}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_frameworks_agree_bit_for_bit(dtype: torch.dtype) -> None:
    case = equality.make_case(TEST_SIZES["grouped heads"], dtype, causal=True)
    inputs = [x.to(dtype).cuda() for x in (case.q, case.k, case.v, case.grad_out)]
    results = zip(
        equality.NAMES,
        equality.through_torch(*inputs, True),
        equality.through_jax(*inputs, True),
        strict=True,
    )
    for name, from_torch, from_jax in results:
        assert torch.equal(from_torch, from_jax), name


def test_runs_are_deterministic() -> None:
    case = equality.make_case(TEST_SIZES["long"], torch.bfloat16, causal=True)
    inputs = [x.bfloat16().cuda() for x in (case.q, case.k, case.v, case.grad_out)]
    first = equality.through_torch(*inputs, True)
    for _ in range(10):
        for expected, got in zip(first, equality.through_torch(*inputs, True), strict=True):
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
    q = torch.zeros(1, 4, 1, 256, device="cuda")
    with pytest.raises(UnsupportedKernelError, match="head_dim up to 128, got 256"):
        torch_op.attention(q, q, q)
    with pytest.raises(UnsupportedKernelError, match="does not support float64 on cuda"):
        torch_op.attention(*[q.double()] * 3)
    with pytest.raises(UnsupportedKernelError, match="head_dim up to 128, got 256"):
        jax_op.attention(*[jax.numpy.zeros((1, 4, 1, 256))] * 3)
