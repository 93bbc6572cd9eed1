"""Portable operations are made of the framework's own operators, and give what kernels give."""

from collections.abc import Callable
from typing import Any

import jax
import jax.export
import numpy as np
import pytest
import torch

from kernels.attention import jax_op as jax_attention
from kernels.attention import torch_op as torch_attention
from kernels.attention.rope import Rope
from kernels.linear_attention import jax_op as jax_linear
from kernels.linear_attention import torch_op as torch_linear
from kernels.portable import is_portable, portable_operations

# Sums of a few numbers, in float32.
TOLERANCE = 1e-6

SLOPES = np.array([0.5, 0.25], np.float32)
DECAYS = np.array([0.9, 0.8], np.float32)

# A call of the operation of either framework, of q, k and v.
CALLS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "attention": (
        lambda q, k, v: jax_attention.attention(
            q, k, v, causal=True, alibi_slopes=jax.numpy.asarray(SLOPES), rope=Rope()
        ),
        lambda q, k, v: torch_attention.attention(
            q, k, v, causal=True, alibi_slopes=torch.tensor(SLOPES), rope=Rope()
        ),
    ),
    "linear attention": (
        lambda q, k, v: jax_linear.linear_attention(q, k, v, decay=jax.numpy.asarray(DECAYS)),
        lambda q, k, v: torch_linear.linear_attention(q, k, v, decay=torch.tensor(DECAYS)),
    ),
}


def _inputs(batch: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.normal(size=(batch, 5, 2, 4)).astype(np.float32) for _ in range(3)]


@pytest.mark.parametrize("operation", CALLS)
def test_jax_traces_no_call_and_any_batch(operation: str) -> None:
    call, _ = CALLS[operation]
    (batch,) = jax.export.symbolic_shape("batch")
    kinds = [jax.ShapeDtypeStruct((batch, 5, 2, 4), np.float32)] * 3
    with portable_operations():
        exported = jax.export.export(jax.jit(call))(*kinds)
    assert "custom_call" not in exported.mlir_module().replace("custom_call @shape_assertion", "")
    for size in (1, 3):
        np.testing.assert_allclose(
            exported.call(*_inputs(size)), call(*_inputs(size)), atol=TOLERANCE
        )


class _Module(torch.nn.Module):
    def __init__(self, call: Callable[..., Any]):
        super().__init__()
        self.call = call

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.call(q, k, v)
        return result


@pytest.mark.parametrize("operation", CALLS)
def test_torch_traces_only_its_own_operators_and_any_batch(operation: str) -> None:
    _, call = CALLS[operation]
    dynamic = [{0: torch.export.Dim("batch", min=1)}] * 3
    traced = tuple(map(torch.tensor, _inputs(2)))
    with portable_operations(), torch.backends.opt_einsum.flags(enabled=False):
        program = torch.export.export(_Module(call), traced, dynamic_shapes=dynamic)
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not [name for name in names if name.startswith("hpc")]
    for size in (1, 3):
        inputs = [torch.tensor(x) for x in _inputs(size)]
        torch.testing.assert_close(program.module()(*inputs), call(*inputs), rtol=0, atol=TOLERANCE)


def test_operations_are_portable_within_alone() -> None:
    assert not is_portable()
    with portable_operations():
        assert is_portable()
    assert not is_portable()


def test_they_are_not_after_an_error() -> None:
    with pytest.raises(KeyError), portable_operations():
        raise KeyError
    assert not is_portable()
