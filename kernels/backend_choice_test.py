"""A call chooses its backend once, and what it chose computes its derivatives too."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest
import torch

from kernels import dispatch
from kernels.attention import jax_op as attention_jax
from kernels.attention import torch_op as attention_torch
from kernels.dispatch import ENVIRONMENT_VARIABLE, UnsupportedKernelError
from kernels.linear_attention import jax_op as linear_jax
from kernels.linear_attention import torch_op as linear_torch
from kernels.optimizer_step import contract as step_contract
from kernels.optimizer_step import jax_op as step_jax
from kernels.optimizer_step import torch_op as step_torch
from kernels.quantize import jax_op as quantize_jax
from kernels.quantize import torch_op as quantize_torch

GENERATOR = torch.Generator().manual_seed(0)
QKV = torch.randn(3, 2, 70, 4, 16, generator=GENERATOR)
VALUES = torch.randn(700, generator=GENERATOR)

# A call that asks again fails.
NO_BACKEND = "none"


@pytest.fixture
def choices(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every time that a backend is chosen, from here on."""
    made: list[str] = []

    def choose() -> str:
        made.append(requested := requested_backend())
        return requested

    requested_backend = dispatch.requested_backend
    for module in (dispatch, step_contract):
        monkeypatch.setattr(module, "requested_backend", choose)
    return made


def _torch_gradients(operation: Callable[..., torch.Tensor]) -> Callable[[], Any]:
    def run() -> Any:
        leaves = [x.clone().requires_grad_() for x in QKV]
        out = operation(*leaves, causal=True)
        return out, *torch.autograd.grad(out.square().sum(), leaves)

    return run


def _torch_second_derivatives(operation: Callable[..., torch.Tensor]) -> Callable[[], Any]:
    def run() -> Any:
        q = QKV[0].clone().requires_grad_()
        (grad,) = torch.autograd.grad(operation(q, q, q).square().sum(), q, create_graph=True)
        return torch.autograd.grad(grad.sum(), q)

    return run


def _jax_gradients(operation: Callable[..., jax.Array]) -> Callable[[], Any]:
    qkv = [jnp.asarray(x.numpy()) for x in QKV]
    return lambda: jax.grad(lambda *x: jnp.sum(operation(*x, causal=True) ** 2), (0, 1, 2))(*qkv)


def _step_torch() -> None:
    batch = step_torch.Batch(torch.device("cpu"))
    for place, dtype in enumerate((torch.float32, torch.bfloat16, torch.float16)):
        param = torch.ones(5, dtype=dtype)
        assert batch.take(param, param.clone(), [torch.zeros(5)], place)
    batch.step(
        "lion",
        step=1,
        rate=0.1,
        weight_decay=0.0,
        decay_is_proximal=False,
        hyperparameters=(0.9, 0.99),
        scalars=(),
    )


def _step_jax() -> Any:
    params = [jnp.ones(5), jnp.ones(3, jnp.bfloat16), jnp.ones(())]
    return step_jax.step(
        "lion",
        params,
        params,
        [[jnp.zeros(x.shape)] for x in params],
        step=jnp.int32(1),
        rate=jnp.float32(0.1),
        scalars=[],
        weight_decay=0.0,
        decays=[True] * 3,
        decay_is_proximal=False,
        hyperparameters=(0.9, 0.99),
    )


PAYLOAD = quantize_torch.quantize(VALUES)
JAX_PAYLOAD = jnp.asarray(PAYLOAD.numpy())

CALLS: dict[str, Callable[[], Any]] = {
    "attention torch": _torch_gradients(attention_torch.attention),
    "attention torch, twice": _torch_second_derivatives(attention_torch.attention),
    "attention jax": _jax_gradients(attention_jax.attention),
    "linear_attention torch": _torch_gradients(linear_torch.linear_attention),
    "linear_attention torch, twice": _torch_second_derivatives(linear_torch.linear_attention),
    "linear_attention jax": _jax_gradients(linear_jax.linear_attention),
    "quantize torch": lambda: quantize_torch.quantize(VALUES),
    "dequantize torch": lambda: quantize_torch.dequantize(PAYLOAD, len(VALUES)),
    "reduce torch": lambda: quantize_torch.reduce(PAYLOAD, len(VALUES)),
    "reduce_quantize torch": lambda: quantize_torch.reduce_quantize(PAYLOAD, len(VALUES)),
    "quantize jax": lambda: quantize_jax.quantize(jnp.asarray(VALUES.numpy())),
    "dequantize jax": lambda: quantize_jax.dequantize(JAX_PAYLOAD, len(VALUES)),
    "reduce jax": lambda: quantize_jax.reduce(JAX_PAYLOAD, len(VALUES)),
    "reduce_quantize jax": lambda: quantize_jax.reduce_quantize(JAX_PAYLOAD, len(VALUES)),
    "optimizer_step torch": _step_torch,
    "optimizer_step jax": _step_jax,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_call_chooses_once(call: Callable[[], Any], choices: list[str]) -> None:
    call()
    assert len(choices) == 1


OPERATIONS = {
    "attention": (attention_torch.attention, attention_jax.attention),
    "linear_attention": (linear_torch.linear_attention, linear_jax.linear_attention),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_torch_gradient_is_of_the_backend_of_the_result(
    name: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation: Callable[..., Any] = OPERATIONS[name][0]
    if compiled:
        torch.compiler.reset()
        operation = torch.compile(operation, fullgraph=True, backend="aot_eager")

    def run(forward: str, backward: str) -> tuple[torch.Tensor, ...]:
        leaves = [x.clone().requires_grad_() for x in QKV]
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, forward)
        out = operation(*leaves, causal=True)
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, backward)
        return torch.autograd.grad(out.square().sum(), leaves)

    of_reference = run("reference", "reference")
    for expected, got in zip(of_reference, run("reference", NO_BACKEND), strict=True):
        assert torch.equal(expected, got)
    torch.compiler.reset()
    of_cpu = run("cpu", NO_BACKEND)
    # Sums of float64, rounded, are not those of float32.
    assert not any(map(torch.equal, of_reference, of_cpu))


@pytest.mark.parametrize("name", OPERATIONS)
def test_jax_gradient_is_of_the_backend_of_the_result(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = OPERATIONS[name][1]
    qkv = [jnp.asarray(x.numpy()) for x in QKV]

    def run(forward: str, backward: str) -> tuple[jax.Array, ...]:
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, forward)
        out, pull = jax.vjp(lambda *x: operation(*x, causal=True), *qkv)
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, backward)
        gradients: tuple[jax.Array, ...] = pull(2 * out)
        return gradients

    of_reference = run("reference", "reference")
    for expected, got in zip(of_reference, run("reference", NO_BACKEND), strict=True):
        assert jnp.array_equal(expected, got)
    of_cpu = run("cpu", NO_BACKEND)
    assert not any(map(jnp.array_equal, of_reference, of_cpu))


def test_backend_of_another_device_is_refused() -> None:
    """As where a program is exported and moved: the CPU's code is not given a GPU's memory."""
    payload = torch.empty_like(PAYLOAD)
    arguments = (VALUES, None, payload, 0, 0, 256, 1, len(VALUES), 0, 0)
    for backend in ("triton", NO_BACKEND):
        message = f"quantize's backend '{backend}' does not support float32 on cpu; supported: "
        with pytest.raises(UnsupportedKernelError, match=message):
            torch.ops.hpc.quantize(*arguments, backend)
