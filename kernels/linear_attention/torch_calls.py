"""The operators `hpc::linear_attention_forward` and `..._backward`, and all their derivatives.

What torch_op calls once its arguments are checked. Both run through the backend that it chose: it
is an argument of the operators, so that a gradient is computed by what computed the result.
"""

import dataclasses
from typing import Any

import torch

from kernels import cubin_loader, dispatch, torch_arguments, torch_derivatives
from kernels.linear_attention import _native, contract, formula_torch, reference
from kernels.linear_attention.contract import Extras, Options, Sizes, State
from kernels.torch_tensors import MaybeTensor, addresses, dense, dtype_name, queue, sum_dtype


def linear_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    extras: Extras,
    wants_state: bool,
    options: Options,
    backend: str,
) -> tuple[torch.Tensor, State]:
    """As torch_op.linear_attention, of arguments that fit; the state is empty unless wanted."""
    operation = _LinearAttention(wants_state, options, backend)
    out, _, kv, k_sum = torch_derivatives.call(operation, q, k, v, *extras)
    return out, State(kv, k_sum)


@dataclasses.dataclass(frozen=True)
class _LinearAttention:
    """Linear attention as `torch_derivatives` takes it: of q, k, v and the extras."""

    wants_state: bool
    options: Options
    backend: str
    num_inputs = num_differentiable = 3 + len(Extras._fields)
    unbatched = ()

    def operator(self, *inputs: Any) -> tuple[torch.Tensor, ...]:
        results: tuple[torch.Tensor, ...] = _forward(
            *inputs, self.wants_state, *self.options, self.backend
        )
        return results

    def backward(self, inputs: Any, outputs: Any, grads: Any, wanted: Any) -> Any:
        options_and_backend = (*self.options, self.backend)
        gradients = _gradients_of(inputs, outputs[:2], grads, wanted, options_and_backend)
        return tuple(g for g, is_wanted in zip(gradients, wanted, strict=True) if is_wanted)

    def formula(self, *inputs: Any) -> tuple[torch.Tensor, ...]:
        q, k, v, *extras = inputs
        out, *state = formula_torch.linear_attention(q, k, v, Extras(*extras), self.options)
        # What the kernels make and use of the factor, no formula needs.
        factor = q.new_zeros((q.shape[0], q.shape[2], q.shape[1]), dtype=sum_dtype(q))
        return out, factor, *(state if self.wants_state else _empty_state(q, v, wanted=False))


@torch.library.custom_op("hpc::linear_attention_forward", mutates_args=())
def _forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    decay: torch.Tensor | None,
    initial_kv: torch.Tensor | None,
    initial_k_sum: torch.Tensor | None,
    wants_state: bool,
    causal: bool,
    feature_map: int,
    normalize: bool,
    eps: float,
    scale: float,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns out, factor [batch, num_heads, seq_len] and the final state (empty unless wanted)."""
    inputs = _dense(q, k, v, decay, initial_kv, initial_k_sum)
    results = _empty_results(q, v, wants_state)
    options = Options(causal, feature_map, normalize, eps, scale)
    _run("forward", backend, (*inputs, *results), options)
    return results


@torch.library.custom_op("hpc::linear_attention_backward", mutates_args=())
def _backward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    decay: torch.Tensor | None,
    initial_kv: torch.Tensor | None,
    initial_k_sum: torch.Tensor | None,
    out: torch.Tensor,
    factor: torch.Tensor,
    grad_out: torch.Tensor,
    grad_final_kv: torch.Tensor | None,
    grad_final_k_sum: torch.Tensor | None,
    wants_decay: bool,
    wants_initial: bool,
    causal: bool,
    feature_map: int,
    normalize: bool,
    eps: float,
    scale: float,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the gradients of q, k, v, decay and the initial state (empty unless wanted)."""
    for name, x in (("q", q), ("k", k), ("v", v), ("out", out), ("the gradient of out", grad_out)):
        torch_arguments.memory(name, x)  # Time has passed since the results were computed.
    given = (q, k, v, decay, initial_kv, initial_k_sum, out, factor, grad_out)
    inputs = _dense(*given, grad_final_kv, grad_final_k_sum)
    grads = _empty_gradients(q, k, v, wants_decay, wants_initial)
    options = Options(causal, feature_map, normalize, eps, scale)
    _run("backward", backend, (*inputs, *grads), options)
    return grads


@_forward.register_fake
def _forward_fake(q, k, v, decay, kv, k_sum, wants_state, *others):  # type: ignore[no-untyped-def]
    return _empty_results(q, v, wants_state)


@_backward.register_fake
def _backward_fake(q, k, v, *others):  # type: ignore[no-untyped-def]
    wants_decay, wants_initial = others[8:10]
    return _empty_gradients(q, k, v, wants_decay, wants_initial)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.options_and_backend = inputs[7:]
    ctx.save_for_backward(*inputs[:6], *output[:2])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _gradients_of(inputs, results, grads, wanted, options_and_backend):  # type: ignore[no-untyped-def]
    """The gradients of the inputs by the operator; empty where they are not wanted."""
    q, _, v = inputs[:3]
    grad_out, _, grad_kv, grad_k_sum = grads
    if grad_out is None:
        grad_out = torch.zeros_like(results[0])
    if (grad_kv is None) != (grad_k_sum is None):
        _, _, *zeros = _empty_results(q, v, wants_state=True)
        grad_kv, grad_k_sum = (
            zero.zero_() if g is None else g
            for g, zero in zip((grad_kv, grad_k_sum), zeros, strict=True)
        )
    final = (grad_out, grad_kv, grad_k_sum)
    extras_wanted = wanted[3], any(wanted[4:6])
    return _backward(*inputs, *results, *final, *extras_wanted, *options_and_backend)


def _gradients(ctx, *grads):  # type: ignore[no-untyped-def]
    inputs, results, wanted = ctx.saved_tensors[:6], ctx.saved_tensors[6:], ctx.needs_input_grad[:6]
    gradients = _gradients_of(inputs, results, grads, wanted, ctx.options_and_backend)
    kept = (g if is_wanted else None for g, is_wanted in zip(gradients, wanted, strict=True))
    return *kept, *(None,) * (1 + len(ctx.options_and_backend))


_forward.register_autograd(_gradients, setup_context=_setup_context)


def _empty_state(q: torch.Tensor, v: torch.Tensor, wanted: bool) -> tuple[torch.Tensor, ...]:
    batch, _, num_heads, key_dim = q.shape
    shapes = ((batch, num_heads, key_dim, v.shape[3]), (batch, num_heads, key_dim))
    return tuple(q.new_empty(s if wanted else (0,), dtype=sum_dtype(q)) for s in shapes)


def _empty_results(
    q: torch.Tensor, v: torch.Tensor, wants_state: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Makes out, factor and the final state, contiguous whatever the layout of q."""
    batch, seq_len, num_heads, _ = q.shape
    out = q.new_empty((batch, seq_len, num_heads, v.shape[3]))
    factor = q.new_empty((batch, num_heads, seq_len), dtype=sum_dtype(q))
    kv, k_sum = _empty_state(q, v, wants_state)
    return out, factor, kv, k_sum


def _empty_gradients(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, wants_decay: bool, wants_initial: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    decay_shape = (q.shape[0], q.shape[2]) if wants_decay else (0,)
    decay = q.new_empty(decay_shape, dtype=sum_dtype(q))
    kv, k_sum = _empty_state(q, v, wants_initial)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), decay, kv, k_sum


def _run(direction: str, backend: str, tensors: tuple[Any, ...], options: Options) -> None:
    """Runs "forward" or "backward" on tensors in the order of problem.h, without the workspace."""
    torch_derivatives.refuse_forward_mode(f"hpc::linear_attention_{direction}")
    q, v = tensors[0], tensors[2]
    batch, seq_len, num_heads, key_dim = q.shape
    sizes = Sizes(batch, seq_len, num_heads, v.shape[2], key_dim, v.shape[3])
    dtype, device = dtype_name(q), q.device.type
    support = contract.SUPPORT
    dispatch.check_backend("linear_attention", support, backend, device=device, dtype=dtype)
    if backend == "cpu":
        _native.limit_threads(torch.get_num_threads())
        getattr(_native, f"{direction}_cpu")(dtype, sizes, options, addresses(*tensors, None))
    elif device == "cuda":
        cubin_loader.ensure_registered(_native)
        run = getattr(_native, f"{direction}_{backend}")
        workspace = _workspace(direction, q, sizes)
        run(dtype, sizes, options, addresses(*tensors, workspace), *queue(q))
    elif backend == "triton":
        # Imported here: Triton decides at its import whether to interpret.
        from kernels.linear_attention import triton_jit

        run = getattr(triton_jit, direction)
        run(*tensors, _workspace(direction, q, sizes), sizes=sizes, options=options)
    else:
        _run_reference(direction, tensors, options)


def _workspace(direction: str, q: torch.Tensor, sizes: Sizes) -> torch.Tensor:
    size = contract.workspace_bytes(
        "triton", dtype_name(q), sizes, backward=direction == "backward"
    )
    return q.new_empty((size,), dtype=torch.uint8)


def _run_reference(direction: str, tensors: tuple[Any, ...], options: Options) -> None:
    arrays: list[Any] = [None if x is None else x.double().numpy() for x in tensors]
    q, k, v, *extras = arrays[:6]
    results: tuple[reference.Array, ...]
    if direction == "forward":
        out, state = reference.forward(q, k, v, options, Extras(*extras))
        outputs, results = (tensors[6], *tensors[8:]), (out, *state)
        tensors[7].zero_()  # The factor: the specification's gradients do not take it.
    else:
        grad_final = None if arrays[9] is None else State(*arrays[9:11])
        outputs = tensors[11:]
        results = reference.backward(q, k, v, arrays[8], options, Extras(*extras), grad_final)
    for output, result in zip(outputs, results, strict=True):
        if output.numel():
            output.copy_(torch.from_numpy(result))


def _dense(*tensors: MaybeTensor) -> tuple[MaybeTensor, ...]:
    return tuple(None if x is None else dense(x) for x in tensors)
