"""Attention for JAX: one XLA FFI call for CPU and CUDA, with gradients.

    from kernels.attention import jax_op
    out = jax_op.attention(q, k, v, causal=True)

Works under jit, grad and vmap (which folds into the batch), and runs the same native code as
`torch_op`. Under jit the backend is chosen when the function is traced. Under sharding the call is
opaque: wrap it in `jax.shard_map` over batch or heads.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from kernels.attention import _native, contract, cubin_loader, reference
from kernels.dispatch import UnsupportedKernelError

# A function of arrays [batch, ...] that gives several.
Function = Callable[..., tuple[jax.Array, ...]]

for _target, _platform, _handler in _native.xla_handlers():
    jax.ffi.register_ffi_target(_target, _handler, platform=_platform)


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    causal: bool = False,
    softmax_scale: float | None = None,
) -> jax.Array:
    """Computes softmax(softmax_scale * q k^T) v for each head.

    Args:
      q: [batch, seq_q, num_heads, head_dim].
      k: [batch, seq_k, num_kv_heads, head_dim]; num_heads is a multiple of num_kv_heads and query
        head h reads key head h // (num_heads // num_kv_heads).
      v: as k. One dtype for all: float32, bfloat16 or float64 on CPU; float16, bfloat16 or float32
        on CUDA with head_dim up to 128. Sums are float32, or float64 for float64.
      causal: query i sees the keys j <= i + seq_k - seq_q, aligned to the bottom right. A query
        that sees no key gives zeros.
      softmax_scale: 1 / sqrt(head_dim) unless given. A Python number, not a traced array.

    Returns:
      An array with the shape and dtype of q.

    Raises:
      TypeError: dtypes differ, or softmax_scale is not a number.
      ValueError: shapes do not fit, or no backend serves this dtype and device.

    Reference: Dao, "FlashAttention-2", 2023, arXiv:2307.08691.
    """
    q, k, v = map(jnp.asarray, (q, k, v))
    sizes = contract.check_shapes(q.shape, k.shape, v.shape)
    contract.check_dtypes(q.dtype.name, k.dtype.name, v.dtype.name)
    device = _device(q)
    backend = contract.select(device, q.dtype.name, sizes.head_dim)
    scale = contract.resolve_scale(softmax_scale, sizes.head_dim)
    if backend == "triton":
        if device != "cuda":
            raise UnsupportedKernelError("attention's triton backend serves JAX on cuda only")
        cubin_loader.ensure_registered()
    if padding := contract.head_padding(backend, sizes.head_dim):
        widths = ((0, 0), (0, 0), (0, 0), (0, padding))
        q, k, v = (jnp.pad(x, widths) for x in (q, k, v))
        return _attention(q, k, v, bool(causal), scale, backend)[..., : sizes.head_dim]
    return _attention(q, k, v, bool(causal), scale, backend)


def _device(x: jax.Array) -> str:
    """The platform of an array; of a traced one, the platform that will run it by default."""
    if isinstance(x, jax.core.Tracer):
        platform = jax.default_backend()
    else:
        platform = next(iter(x.devices())).platform
    return "cuda" if platform == "gpu" else platform


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _attention(
    q: jax.Array, k: jax.Array, v: jax.Array, causal: bool, softmax_scale: float, backend: str
) -> jax.Array:
    out, _ = _forward(causal, softmax_scale, backend)(q, k, v)
    return out


def _attention_fwd(q, k, v, causal, softmax_scale, backend):  # type: ignore[no-untyped-def]
    out, lse = _forward(causal, softmax_scale, backend)(q, k, v)
    return out, (q, k, v, out, lse)


def _attention_bwd(causal, softmax_scale, backend, residuals, grad_out):  # type: ignore[no-untyped-def]
    return _backward(causal, softmax_scale, backend)(*residuals, grad_out)


_attention.defvjp(_attention_fwd, _attention_bwd)


def _fold_vmap(function: Function) -> Function:
    """Makes vmap of a function fold the mapped axis into the batch."""
    mapped = jax.custom_batching.custom_vmap(function)

    @mapped.def_vmap
    def _(axis_size: int, in_batched: list[bool], *args: jax.Array):  # type: ignore[no-untyped-def]
        def fold(x: jax.Array, is_mapped: bool) -> jax.Array:
            x = x if is_mapped else jnp.broadcast_to(x, (axis_size, *x.shape))
            return x.reshape(axis_size * x.shape[1], *x.shape[2:])

        outputs = mapped(*map(fold, args, in_batched))
        unfolded = tuple(x.reshape(axis_size, -1, *x.shape[1:]) for x in outputs)
        return unfolded, (True,) * len(unfolded)

    return mapped


# Cached, so that a function traced twice is one function to JAX.
@functools.cache
def _forward(causal: bool, softmax_scale: float, backend: str) -> Function:
    """(q, k, v) -> (out, lse [batch, num_heads, seq_q])."""

    def forward(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, ...]:
        shapes = (_like(q), _lse_shape(q))
        if backend == "reference":
            spec = functools.partial(reference.forward, causal=causal, softmax_scale=softmax_scale)
            return _callback(spec, shapes, q, k, v)
        call = jax.ffi.ffi_call("hpc_attention_forward", shapes)
        return tuple(call(q, k, v, causal=causal, softmax_scale=np.float64(softmax_scale)))

    return _fold_vmap(forward)


@functools.cache
def _backward(causal: bool, softmax_scale: float, backend: str) -> Function:
    """(q, k, v, out, lse, grad_out) -> (grad_q, grad_k, grad_v)."""

    def backward(q, k, v, out, lse, grad_out):  # type: ignore[no-untyped-def]
        shapes = (_like(q), _like(k), _like(v))
        if backend == "reference":
            spec = functools.partial(reference.backward, causal=causal, softmax_scale=softmax_scale)
            return _callback(spec, shapes, q, k, v, grad_out)
        call = jax.ffi.ffi_call("hpc_attention_backward", (*shapes, _lse_shape(q)))
        args = (q, k, v, out, lse, grad_out)
        grads = call(*args, causal=causal, softmax_scale=np.float64(softmax_scale))
        return tuple(grads[:3])

    return _fold_vmap(backward)


def _like(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _lse_shape(q: jax.Array) -> jax.ShapeDtypeStruct:
    batch, seq_q, num_heads, _ = q.shape
    dtype = jnp.float64 if q.dtype == jnp.float64 else jnp.float32
    return jax.ShapeDtypeStruct((batch, num_heads, seq_q), dtype)


def _callback(
    spec: Callable[..., tuple[reference.Array, ...]],
    shapes: tuple[jax.ShapeDtypeStruct, ...],
    *args: jax.Array,
) -> tuple[jax.Array, ...]:
    """Runs the numpy specification on the host."""

    def host(*arrays: jax.Array) -> tuple[np.ndarray, ...]:
        results = spec(*(np.asarray(x, dtype=np.float64) for x in arrays))
        return tuple(r.astype(s.dtype) for r, s in zip(results, shapes, strict=True))

    return tuple(jax.pure_callback(host, shapes, *args))
