"""On the CPU an infinity or NaN shows where it is seen and nowhere else, whatever hides it.

docs/kernels.md says how it is on CUDA. HPC_CPU_ISA chooses the instruction set.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kernels.attention import _native, cases, torch_op
from kernels.attention.contract import Sizes
from kernels.attention.shapes import Features
from kernels.testing import instruction_sets
from kernels.testing.accuracy import expect, through_torch

pytestmark = instruction_sets.skip_where_missing(_native)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]

# Largest error of a finite result of size 1 or so, by the roundings of the dtype.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-5,
    torch.float16: 2e-2,
    torch.bfloat16: 1e-1,
}

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


def test_rows_that_see_nothing_take_part_in_no_gradient() -> None:
    # Causal with more queries than keys: the first see nothing.
    case = cases.make_case(Sizes(1, 50, 20, 2, 1, 16), torch.float32, Features(causal=True))
    expected = expect(case)
    case.inputs["q"][:, :30] = torch.nan
    case.cotangents["out"][:, :30] = torch.inf
    case.cotangents["lse"][..., :30] = torch.nan
    expected.check(through_torch(case, torch_op.attention), "torch")
