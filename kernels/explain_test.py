"""`explain` says what a call takes, as the call then does."""

import jax.numpy as jnp
import pytest
import torch

from kernels.attention import jax_op, torch_op
from kernels.dispatch import UnsupportedKernelError
from kernels.explain import explain
from kernels.quantize import jax_op as jax_quantize
from kernels.quantize import torch_op as torch_quantize


def test_names_the_backend_and_why_not_the_others() -> None:
    q = torch.zeros(1, 4, 2, 16)
    lines = explain(torch_op.attention, q, q, q, causal=True).splitlines()
    assert lines[0].startswith("attention: cpu: chosen, with ")
    assert "attention: triton: does not serve float32 on cpu" in lines
    assert "attention: reference: only when HPC_KERNEL_BACKEND=reference asks for it" in lines


def test_both_frameworks_say_the_same() -> None:
    q = jnp.zeros((1, 4, 2, 16), jnp.bfloat16)
    p = torch.zeros(1, 4, 2, 16, dtype=torch.bfloat16)
    assert explain(jax_op.attention, q, q, q) == explain(torch_op.attention, p, p, p)


def test_names_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_KERNEL_BACKEND", "reference")
    q = torch.zeros(1, 4, 2, 16)
    lines = explain(torch_op.attention, q, q, q).splitlines()
    assert lines[0] == "attention: reference: chosen: HPC_KERNEL_BACKEND asks for it"
    assert "attention: cpu: not what HPC_KERNEL_BACKEND asks for" in lines


def test_takes_what_each_function_of_an_operation_takes() -> None:
    x, y = torch.zeros(300, dtype=torch.bfloat16), jnp.zeros(300, jnp.bfloat16)
    lines = explain(torch_quantize.quantize, x, num_chunks=2)
    assert lines.startswith("quantize: cpu: chosen\n")
    assert "triton: does not serve bfloat16 on cpu" in lines
    assert explain(jax_quantize.quantize, y, num_chunks=2) == lines
    payload = torch_quantize.quantize(x)
    assert explain(torch_quantize.dequantize, payload, 300, out=x) == lines
    assert explain(torch_quantize.reduce, payload, 300, dtype=torch.bfloat16) == lines
    received = jnp.asarray(payload.numpy())
    assert explain(jax_quantize.dequantize, received, 300, dtype="bfloat16") == lines


def test_refuses_what_the_call_refuses() -> None:
    q = torch.zeros(1, 4, 2, 16, dtype=torch.int32)
    with pytest.raises(UnsupportedKernelError, match="does not support int32 on cpu"):
        explain(torch_op.attention, q, q, q)
    with pytest.raises(TypeError, match="takes the function of an operation"):
        explain(torch.nn.functional.relu, q)
