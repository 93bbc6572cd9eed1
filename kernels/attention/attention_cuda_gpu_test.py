"""Attention on a Hopper GPU by the CUDA C++ kernels, through torch and JAX, against float64.

Run by infra/gpu/run.sh, or by Bazel with --config=cuda. Without a Hopper GPU these tests fail.
"""

import jax
import pytest
import torch

from kernels.attention import cases, jax_op, torch_op
from kernels.attention.contract import Sizes
from kernels.attention.shapes import Features
from kernels.dispatch import ENVIRONMENT_VARIABLE
from kernels.testing.accuracy import expect, through_torch
from kernels.testing.jax_run import through_jax

pytestmark = pytest.mark.gpu

DTYPES = [torch.float16, torch.bfloat16]

# Blocks are 128 or 192 queries and 128 or 160 keys.
SIZES = {
    "one token": Sizes(1, 1, 1, 1, 1, 64),
    "one query": Sizes(2, 1, 500, 8, 2, 128),
    "exact blocks": Sizes(1, 384, 640, 2, 2, 64),
    "ragged blocks": Sizes(2, 200, 333, 4, 2, 128),
    "more queries": Sizes(1, 421, 150, 2, 2, 64),
    "more keys": Sizes(2, 150, 421, 2, 1, 128),
    # More tiles than multiprocessors, so that thread blocks take several.
    "many tiles": Sizes(4, 700, 700, 16, 4, 64),
    "many tiles, head_dim 128": Sizes(4, 700, 700, 16, 4, 128),
}
FEATURES = {
    "full": Features(),
    "causal": Features(causal=True),
    "alibi": Features(alibi=True),
    "alibi causal": Features(alibi=True, causal=True),
    "window": Features(window=(150, 45)),
    "window causal": Features(window=(30, None), causal=True),
    "window left": Features(window=(20, None)),
}


@pytest.fixture(autouse=True)
def cuda_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asks for the backend under test."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "cuda")


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES.keys())
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_matches_float64(sizes: Sizes, dtype: torch.dtype, features: Features) -> None:
    assert jax.default_backend() == "gpu", "JAX finds no GPU"
    case = cases.make_case(sizes, dtype, features)
    expected = expect(case)
    expected.check(through_torch(case, torch_op.attention, "cuda"), "torch")
    expected.check(through_jax(case, jax_op.attention), "jax")


@pytest.mark.parametrize("head_dim", [64, 128])
def test_agrees_with_triton_at_length(head_dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (
        torch.randn(2, 4096, heads, head_dim, device="cuda", dtype=torch.bfloat16)
        for heads in (16, 4, 4)
    )
    for causal in (False, True):
        got, got_lse = torch_op.attention(q, k, v, causal=causal, return_lse=True)
        with monkeypatch.context() as patch:
            patch.setenv(ENVIRONMENT_VARIABLE, "triton")
            want, want_lse = torch_op.attention(q, k, v, causal=causal, return_lse=True)
        # Two roundings of probabilities and outputs each, of values of about 1.
        torch.testing.assert_close(got, want, atol=2**-7, rtol=2**-7)
        torch.testing.assert_close(got_lse, want_lse, atol=1e-4, rtol=1e-5)


def test_runs_are_deterministic() -> None:
    q, k, v = (torch.randn(2, 2048, 8, 128, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    first = torch_op.attention(q, k, v, causal=True, return_lse=True)
    for _ in range(50):
        for expected, got in zip(
            first, torch_op.attention(q, k, v, causal=True, return_lse=True), strict=True
        ):
            assert torch.equal(expected, got)
