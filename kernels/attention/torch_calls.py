"""The operators `hpc::attention_forward` and `hpc::attention_backward`, and all their derivatives.

What torch_op calls once its arguments are checked. Both run through the backend that it chose: it
is an argument of the operators, so that a gradient is computed by what computed the result.
"""

import dataclasses
from typing import Any

import numpy as np
import torch

from kernels import cubin_loader, dispatch, torch_arguments, torch_derivatives
from kernels.attention import _native, contract, formula_torch, reference, rope, torch_segments
from kernels.attention.contract import Extras, Options, Sizes
from kernels.torch_tensors import MaybeTensor, addresses, dense, dtype_name, queue, sum_dtype


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    extras: Extras,
    options: Options,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As torch_op.attention, of arguments that fit: out and lse [batch, num_heads, seq_q]."""
    out, lse = torch_derivatives.call(_Attention(options, backend), q, k, v, *extras)
    return out, lse


@dataclasses.dataclass(frozen=True)
class _Attention:
    """Attention as `torch_derivatives` takes it: of q, k, v and the extras."""

    options: Options
    backend: str
    num_inputs = 3 + len(Extras._fields)
    num_differentiable = 4
    # The tables of RoPE.
    unbatched = (4, 5)

    def operator(self, *inputs: Any) -> tuple[torch.Tensor, ...]:
        results: tuple[torch.Tensor, ...] = _forward(*inputs, *self.options, self.backend)
        return results

    def backward(self, inputs: Any, outputs: Any, grads: Any, wanted: Any) -> Any:
        q, k, v, *extras = inputs
        out, lse = outputs
        grad_out, grad_lse = grads
        grad_out = torch.zeros_like(out) if grad_out is None else grad_out
        results = (out, lse, grad_out, grad_lse, wanted[3])
        gradients = _backward(q, k, v, *results, *extras, *self.options, self.backend)
        return tuple(g for g, is_wanted in zip(gradients, wanted, strict=True) if is_wanted)

    def formula(self, *inputs: Any) -> tuple[torch.Tensor, ...]:
        q, k, v, *extras = inputs
        return formula_torch.attention(q, k, v, Extras(*extras), self.options)


@torch.library.custom_op("hpc::rope_tables", mutates_args=())
def rope_tables(
    positions: int,
    rotary_dim: int,
    base: float,
    offset: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cos and sin [positions, rotary_dim / 2] as `rope.rope_tables` has them.

    An operator, so that torch.compile need not know how many positions there are.
    """
    tables = rope.rope_tables(positions, rotary_dim, base=base, offset=offset)
    cos, sin = (torch.from_numpy(x).to(device, dtype) for x in tables)
    return cos, sin


@rope_tables.register_fake
def _rope_tables_fake(positions, rotary_dim, base, offset, dtype, device):  # type: ignore[no-untyped-def]
    shape = (positions, rotary_dim // 2)
    return tuple(torch.empty(shape, dtype=dtype, device=device) for _ in range(2))


@torch.library.custom_op("hpc::attention_forward", mutates_args=())
def _forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    alibi_slopes: torch.Tensor | None,
    rope_cos: torch.Tensor | None,
    rope_sin: torch.Tensor | None,
    q_segments: torch.Tensor | None,
    kv_segments: torch.Tensor | None,
    dropout_seeds: torch.Tensor | None,
    softmax_scale: float,
    window_left: int,
    window_right: int,
    softcap: float,
    dropout_rate: float,
    rotary_dim: int,
    rotary_interleaved: bool,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns out and lse [batch, num_heads, seq_q]."""
    q, k, v = map(dense, (q, k, v))
    extras = _dense_extras(alibi_slopes, rope_cos, rope_sin, q_segments, kv_segments, dropout_seeds)
    options = Options(
        softmax_scale,
        window_left,
        window_right,
        softcap,
        dropout_rate,
        rotary_dim,
        rotary_interleaved,
    )
    out, lse = _empty_results(q)
    _run("forward", backend, (q, k, v, out, lse), options, extras)
    return out, lse


@torch.library.custom_op("hpc::attention_backward", mutates_args=())
def _backward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor | None,
    slopes_wanted: bool,
    alibi_slopes: torch.Tensor | None,
    rope_cos: torch.Tensor | None,
    rope_sin: torch.Tensor | None,
    q_segments: torch.Tensor | None,
    kv_segments: torch.Tensor | None,
    dropout_seeds: torch.Tensor | None,
    softmax_scale: float,
    window_left: int,
    window_right: int,
    softcap: float,
    dropout_rate: float,
    rotary_dim: int,
    rotary_interleaved: bool,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the gradients of q, k, v and the slopes [batch, num_heads] (zeros unless wanted)."""
    given = {"q": q, "k": k, "v": v, "out": out, "lse": lse, "the gradient of out": grad_out}
    for name, x in given.items():  # Time has passed since the results were computed.
        torch_arguments.memory(name, x)
    q, k, v, out, lse, grad_out = map(dense, given.values())
    extras = _dense_extras(alibi_slopes, rope_cos, rope_sin, q_segments, kv_segments, dropout_seeds)
    options = Options(
        softmax_scale,
        window_left,
        window_right,
        softcap,
        dropout_rate,
        rotary_dim,
        rotary_interleaved,
    )
    grads = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    delta = torch.empty_like(lse)
    grad_slopes = torch.empty_like(lse) if slopes_wanted else None
    grad_lse = None if grad_lse is None else dense(grad_lse)
    tensors = (q, k, v, out, lse, grad_out, grad_lse, *grads, grad_slopes, delta)
    _run("backward", backend, tensors, options, extras)
    slopes_shape = lse.shape[:2]
    return *grads, lse.new_zeros(slopes_shape) if grad_slopes is None else grad_slopes.sum(-1)


@_forward.register_fake
def _forward_fake(q, k, v, *others):  # type: ignore[no-untyped-def]
    return _empty_results(q)


@_backward.register_fake
def _backward_fake(q, k, v, out, lse, *others):  # type: ignore[no-untyped-def]
    return (*(x.new_empty(x.shape) for x in (q, k, v)), lse.new_empty(lse.shape[:2]))


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    tensors, ctx.options_and_backend = inputs[:9], inputs[9:]
    ctx.save_for_backward(*tensors, *output)
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_out, grad_lse):  # type: ignore[no-untyped-def]
    q, k, v, *extras, out, lse = ctx.saved_tensors
    grad_out = torch.zeros_like(out) if grad_out is None else grad_out
    wanted = ctx.needs_input_grad[3]
    results = (out, lse, grad_out, grad_lse, wanted)
    grads = _backward(q, k, v, *results, *extras, *ctx.options_and_backend)
    unused = (None,) * (5 + len(ctx.options_and_backend))
    return *grads[:3], grads[3] if wanted else None, *unused


_forward.register_autograd(_gradients, setup_context=_setup_context)


def _empty_results(q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Makes out and lse, contiguous whatever the layout of q."""
    batch, seq_q, num_heads, _ = q.shape
    return q.new_empty(q.shape), q.new_empty((batch, num_heads, seq_q), dtype=sum_dtype(q))


def _run(
    direction: str,
    backend: str,
    tensors: tuple[MaybeTensor, ...],
    options: Options,
    extras: Extras,
) -> None:
    """Runs "forward" or "backward" on tensors in the order of problem.h."""
    torch_derivatives.refuse_forward_mode(f"hpc::attention_{direction}")
    q, k = tensors[:2]
    assert q is not None and k is not None
    batch, seq_q, num_heads, head_dim = q.shape
    sizes = Sizes(batch, seq_q, k.shape[1], num_heads, k.shape[2], head_dim)
    dtype, device = dtype_name(q), q.device.type
    dispatch.check_backend("attention", contract.SUPPORT, backend, device=device, dtype=dtype)
    if backend == "cpu":
        _native.limit_threads(torch.get_num_threads())
        run = getattr(_native, f"{direction}_cpu")
        run(dtype, sizes, options, addresses(*tensors, None, None, *extras))
    elif device == "cuda":
        cubin_loader.ensure_registered(_native)
        run = getattr(_native, f"{direction}_{backend}")
        rotated = _rotated(direction, q, k, sizes, options)
        run(dtype, sizes, options, addresses(*tensors, *rotated, *extras), *queue(q))
    elif backend == "triton":
        # Imported here: Triton decides at its import whether to interpret.
        from kernels.attention import triton_jit

        run = getattr(triton_jit, direction)
        run(*tensors, sizes=sizes, options=options, extras=extras)
    else:
        _run_reference(direction, tensors, options, extras)


def _rotated(
    direction: str, q: torch.Tensor, k: torch.Tensor, sizes: Sizes, options: Options
) -> tuple[MaybeTensor, MaybeTensor]:
    """Workspace for q and k as RoPE turns them, where that is a pass of its own."""
    if contract.rotates_first(direction, sizes, options):
        return torch.empty_like(q), torch.empty_like(k)
    return None, None


def _run_reference(
    direction: str, tensors: tuple[MaybeTensor, ...], options: Options, extras: Extras
) -> None:
    arrays: list[Any] = [None if x is None else x.double().numpy() for x in tensors]
    q, k, v = arrays[:3]
    extra_arrays = Extras(*(None if x is None else x.numpy() for x in extras))
    results: tuple[reference.Array, ...]
    if direction == "forward":
        outputs = tensors[3:5]
        results = reference.forward(q, k, v, options, extra_arrays)
    else:
        grad_out, grad_lse = arrays[5:7]
        outputs = tensors[7:11]
        grads = reference.backward(
            q, k, v, grad_out, options, extra_arrays, 0.0 if grad_lse is None else grad_lse
        )
        # All in the first query: the sum over them counts.
        slope_rows = np.zeros(arrays[4].shape)
        slope_rows[..., :1] = grads.slopes[..., None]
        results = (grads.q, grads.k, grads.v, slope_rows)
    for output, result in zip(outputs, results, strict=True):
        if output is not None:
            output.copy_(torch.from_numpy(result))


def _dense_extras(*tensors: MaybeTensor) -> Extras:
    extras = Extras(*(None if x is None else dense(x) for x in tensors))
    if extras.q_segments is None:
        return extras
    q_segments, kv_segments = torch_segments.narrow(extras.q_segments, extras.kv_segments)
    return extras._replace(q_segments=q_segments, kv_segments=kv_segments)
