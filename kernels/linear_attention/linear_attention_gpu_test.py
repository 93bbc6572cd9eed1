"""Linear attention on an NVIDIA GPU: the cubins, through torch and JAX, against float64.

Run by infra/gpu/run.sh, or by Bazel with --config=cuda. Without a GPU these tests fail.
"""

from collections.abc import Iterator

import jax
import pytest
import torch

from kernels.dispatch import UnsupportedKernelError
from kernels.linear_attention import equality, jax_op, torch_op
from kernels.linear_attention.contract import TRITON_MAX_HEAD_DIM, Sizes
from kernels.linear_attention.equality_jax import through_jax
from kernels.linear_attention.shapes import TEST_SIZES

pytestmark = pytest.mark.gpu

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SIZES = {
    name: sizes
    for name, sizes in TEST_SIZES.items()
    if max(sizes.key_dim, sizes.value_dim) <= TRITON_MAX_HEAD_DIM
}


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[equality.Table]:
    """Collects the errors and prints them into the log, of a passing run too."""
    collected = equality.Table()
    yield collected
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(collected)


def _on_gpu(run: equality.Runner) -> equality.Runner:
    def moved(inputs, grads, features):  # type: ignore[no-untyped-def]
        inputs, grads = ([None if x is None else x.cuda() for x in t] for t in (inputs, grads))
        return run(inputs, grads, features)

    return moved


@pytest.mark.parametrize("features", equality.FEATURES.values(), ids=equality.FEATURES.keys())
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_matches_float64(
    sizes: Sizes, dtype: torch.dtype, features: equality.Features, table: equality.Table
) -> None:
    assert jax.default_backend() == "gpu", "JAX finds no GPU"
    case = equality.make_case(sizes, features, dtype)
    expected = equality.expect(case)
    plain_errors = equality.errors(case, equality.plain, expected)
    bars = equality.allowed(case, expected, plain_errors)
    table.add("plain torch", dtype, plain_errors)
    for name, run in (("torch", equality.through_torch), ("jax", through_jax)):
        found = equality.errors(case, _on_gpu(run), expected)
        table.add(f"cubins through {name}", dtype, found)
        table.compare(found, bars)
        for result, error in found.items():
            assert error <= bars[result], f"{name}: {result} is off by {error}, not {bars[result]}"


def test_runs_are_deterministic() -> None:
    q, k, v = (torch.randn(1, 700, 4, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    leaves = [x.requires_grad_() for x in (q, k, v)]

    def run() -> tuple[torch.Tensor, ...]:
        out = torch_op.linear_attention(*leaves)
        return out, *torch.autograd.grad(out, leaves, torch.ones_like(out))

    first = run()
    for _ in range(10):
        for expected, got in zip(first, run(), strict=True):
            assert torch.equal(expected, got)


def test_uses_the_current_stream() -> None:
    q = torch.randn(1, 512, 4, 64, device="cuda", dtype=torch.bfloat16)
    expected = torch_op.linear_attention(q, q, q)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        got = torch_op.linear_attention(q, q, q)
    stream.synchronize()
    assert torch.equal(expected, got)


def test_unsupported_problems_are_named() -> None:
    q = torch.zeros(1, 4, 1, 256, device="cuda")
    with pytest.raises(UnsupportedKernelError, match="head_dim up to 128, got 256"):
        torch_op.linear_attention(q, q, q)
    with pytest.raises(UnsupportedKernelError, match="does not support float64 on cuda"):
        torch_op.linear_attention(*[q.double()] * 3)
    with pytest.raises(UnsupportedKernelError, match="head_dim up to 128, got 256"):
        jax_op.linear_attention(*[jax.numpy.zeros((1, 4, 1, 256))] * 3)
