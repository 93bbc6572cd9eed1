"""Linear attention on an NVIDIA GPU: the cubins, through torch and JAX, against float64.

Run by infra/gpu/run.sh, or by Bazel with --config=cuda. Without a GPU these tests fail.
"""

import jax
import pytest
import torch

from kernels.dispatch import UnsupportedKernelError
from kernels.linear_attention import cases, jax_op, torch_op
from kernels.linear_attention.contract import TRITON_MAX_HEAD_DIM
from kernels.linear_attention.shapes import FEATURES, TEST_SIZES
from kernels.testing import error_table
from kernels.testing.accuracy import Case, through_torch
from kernels.testing.error_table import ErrorTable
from kernels.testing.jax_run import through_jax
from kernels.testing.torch_run import Tensors

pytestmark = pytest.mark.gpu

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SIZES = {
    name: sizes
    for name, sizes in TEST_SIZES.items()
    if max(sizes.key_dim, sizes.value_dim) <= TRITON_MAX_HEAD_DIM
}


table = error_table.fixture()


def _through_torch(case: Case) -> Tensors:
    return through_torch(case, torch_op.linear_attention, "cuda")


def _through_jax(case: Case) -> Tensors:
    return through_jax(case, jax_op.linear_attention)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_matches_float64(size: str, dtype: torch.dtype, features: str, table: ErrorTable) -> None:
    assert jax.default_backend() == "gpu", "JAX finds no GPU"
    case = cases.make_case(SIZES[size], dtype, FEATURES[features])
    runs = {"cubins through torch": _through_torch, "cubins through jax": _through_jax}
    table.check(f"{size}, {features}", case, runs)


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
