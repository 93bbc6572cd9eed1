"""Blockwise 8-bit quantization for JAX: XLA FFI calls for CPU and CUDA.

    from kernels.quantize import jax_op
    payload, residual = jax_op.quantize(gradient, residual=residual, num_chunks=world_size)
    ...                                                # send a row to each rank, get one from each
    mean = jax_op.reduce(received, size, multiplier=1 / world_size)

Works under jit, shard_map and vmap (one after the other), and runs the same native code as
`torch_op`, with the same bits as results. Not differentiable: what is given counts as constant.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from kernels import arguments, cubin_loader, jax_arguments, jax_calls
from kernels.dispatch import UnsupportedKernelError
from kernels.quantize import _native, contract, reference_calls
from kernels.quantize.contract import DEFAULT_CODEC, FORMATS, Codec, Layout

MaybeArray: TypeAlias = jax.Array | None

for _target, _platform, _handler in _native.xla_handlers():
    jax.ffi.register_ffi_target(_target, _handler, platform=_platform)


def quantize(
    x: jax.Array,
    codec: Codec = DEFAULT_CODEC,
    *,
    num_chunks: int = 1,
    chunk_size: int | None = None,
    residual: jax.Array | None = None,
    seed: int | jax.Array = 0,
    offset: int | jax.Array = 0,
) -> Any:
    """Quantizes x, or x + residual with error feedback, in one pass over memory.

    Args:
      x: float32, bfloat16 or float16 of any shape; counts as flat.
      codec: how values become bytes; see `contract.codec`.
      num_chunks: rows of the payload: equal parts of x, but for the last ones.
      chunk_size: values in each, `codec.chunk_size(x.size, num_chunks)` unless given. It need not
        be a multiple of the block size.
      residual: float32 of as many values as x: what earlier payloads did not say.
      seed: of stochastic rounding, an integer, which may be traced; its low 32 bits count. A key of
        `jax.random.key` stands for 32 bits drawn from it.
      offset: index of the first value in the whole vector, of which x is a piece, so that the
        result of stochastic rounding does not depend on how the vector is cut. An integer, which
        may be traced.

    Returns:
      The payload, uint8 [num_chunks, codec.payload_bytes(chunk_size)]. With a residual, a pair of
      it and the new residual, of the shape of the old: what the payload does not say of x +
      residual.

    Raises:
      TypeError: a dtype or an argument is not of its type.
      ValueError: shapes do not fit, or no backend serves this dtype and device.

    Reference: see reference.py.
    """
    x = jax_arguments.array("x", x)
    layout = contract.check_layout(codec, x.size, num_chunks, chunk_size)
    inputs = (_noise(codec, seed, offset), x, _residual(residual, layout.size))
    backend = _select(x, x.dtype.name)
    has_residual = residual is not None
    payload = ((layout.num_chunks, codec.payload_bytes(layout.chunk_size)), jnp.uint8)
    return _quantized("quantize", backend, inputs, has_residual, payload, codec, layout)


def dequantize(
    payload: jax.Array,
    size: int,
    codec: Codec = DEFAULT_CODEC,
    *,
    chunk_size: int | None = None,
    dtype: Any = jnp.float32,
) -> jax.Array:
    """Returns the values of a payload.

    Args:
      payload: what `quantize` gave, uint8 [num_chunks, payload_bytes].
      size: values in it.
      codec: as it was quantized.
      chunk_size: as it was quantized.
      dtype: of the result; rounded to nearest from float32.

    Returns:
      An array [size].

    Raises:
      TypeError, ValueError: as `quantize`.
    """
    payload = jax_arguments.array("payload", payload)
    layout = _layout(payload, size, codec, chunk_size)
    dtype = _dtype(dtype)
    backend = _select(payload, dtype.name)
    out = jax_calls.like(payload, (layout.size,), dtype)
    return _call("dequantize", backend, (payload,), (out,), codec, layout)[0]


def reduce(
    payloads: jax.Array,
    size: int,
    codec: Codec = DEFAULT_CODEC,
    *,
    multiplier: float = 1.0,
    dtype: Any = jnp.float32,
) -> jax.Array:
    """Returns `multiplier` times the sum of the values of several payloads.

    Args:
      payloads: uint8 [num_payloads, payload_bytes], each row the payload of one chunk.
      size: values in each.
      codec: as they were quantized.
      multiplier: such as 1 / num_payloads for the mean; a Python number and not a traced array.
      dtype: of the result; sums are float32, in the order of the rows.

    Returns:
      An array [size].

    Raises:
      TypeError, ValueError: as `quantize`.
    """
    payloads = jax_arguments.array("payloads", payloads)
    layout = contract.check_sum(payloads.shape, payloads.dtype.name, codec, size)
    multiplier = contract.check_multiplier(multiplier)
    dtype = _dtype(dtype)
    backend = _select(payloads, dtype.name)
    out = jax_calls.like(payloads, (layout.size,), dtype)
    return _call("reduce", backend, (payloads,), (out,), codec, layout, multiplier)[0]


def reduce_quantize(
    payloads: jax.Array,
    size: int,
    codec: Codec = DEFAULT_CODEC,
    *,
    multiplier: float = 1.0,
    residual: jax.Array | None = None,
    seed: int | jax.Array = 0,
    offset: int | jax.Array = 0,
) -> Any:
    """Quantizes `multiplier` times the sum of the values of several payloads, in one pass.

    Args:
      payloads: as for `reduce`.
      size: as for `reduce`.
      codec: how the payloads were quantized, and how their sum is.
      multiplier: as for `reduce`.
      residual: as for `quantize`, of `size` values.
      seed: as for `quantize`.
      offset: as for `quantize`.

    Returns:
      The payload, uint8 [1, codec.payload_bytes(size)]. With a residual, a pair of it and the new
      residual.

    Raises:
      TypeError, ValueError: as `quantize`.
    """
    payloads = jax_arguments.array("payloads", payloads)
    layout = contract.check_sum(payloads.shape, payloads.dtype.name, codec, size)
    multiplier = contract.check_multiplier(multiplier)
    size = layout.size
    inputs = (_noise(codec, seed, offset), payloads, _residual(residual, size))
    backend = _select(payloads, "float32")
    has_residual = residual is not None
    payload = ((1, codec.payload_bytes(size)), jnp.uint8)
    return _quantized(
        "reduce_quantize", backend, inputs, has_residual, payload, codec, layout, multiplier
    )


def codes(
    payload: jax.Array,
    size: int,
    codec: Codec = DEFAULT_CODEC,
    *,
    chunk_size: int | None = None,
) -> jax.Array:
    """Returns a payload's codes, [num_chunks, blocks, block_size] of the format's dtype.

    Raises:
      TypeError, ValueError: it is not the payload of `size` values.
    """
    layout = _layout(payload, size, codec, chunk_size)
    padded = codec.padded_size(layout.chunk_size)
    bits = payload[:, :padded].reshape(layout.num_chunks, -1, codec.block_size)
    return jax.lax.bitcast_convert_type(bits, jnp.dtype(FORMATS[codec.format].name))


def scales(
    payload: jax.Array,
    size: int,
    codec: Codec = DEFAULT_CODEC,
    *,
    chunk_size: int | None = None,
) -> jax.Array:
    """Returns a payload's scales, float32 [num_chunks, blocks].

    Raises:
      TypeError, ValueError: it is not the payload of `size` values.
    """
    layout = _layout(payload, size, codec, chunk_size)
    padded = codec.padded_size(layout.chunk_size)
    end = padded + padded // codec.block_size * contract.SCALE_BYTES
    bits = payload[:, padded:end].reshape(layout.num_chunks, -1, contract.SCALE_BYTES)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def explain(x: jax.Array, *_: Any, dtype: Any = jnp.float32, **__: Any) -> str:
    """Returns a line for each backend: whether and why a call of one of the functions takes it.

    Args:
      x: values, or a payload.
      dtype: of the result, if x is a payload.

    Raises:
      ValueError: no backend serves this dtype and device.
    """
    values = jnp.dtype(dtype) if x.dtype == jnp.uint8 else x.dtype
    return contract.explain(jax_calls.device(x), values.name)


def _layout(payload: jax.Array, size: int, codec: Codec, chunk_size: int | None) -> Layout:
    jax_arguments.array("payload", payload)
    contract.check_payload_rank(payload.shape)
    layout = contract.check_layout(codec, size, payload.shape[0], chunk_size)
    contract.check_payload(payload.shape, payload.dtype.name, codec, layout)
    return layout


def _dtype(dtype: Any) -> np.dtype[Any]:
    try:
        return jnp.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype must be a dtype, got {arguments.given(dtype)}") from None


def _select(x: jax.Array, dtype: str) -> str:
    device = jax_calls.device(x)
    backend = contract.select(device, dtype)
    if backend == "triton":
        if device != "cuda":
            raise UnsupportedKernelError("quantize's triton backend serves JAX on cuda only")
        cubin_loader.ensure_registered(_native)
    return backend


def _residual(residual: MaybeArray, size: int) -> jax.Array:
    """What the native code takes: empty for none."""
    if residual is None:
        return jnp.zeros((0,), jnp.float32)
    residual = jax_arguments.array("residual", residual, or_else=" or None")
    contract.check_residual(residual.shape, residual.dtype.name, size)
    return residual


def _noise(codec: Codec, seed: int | jax.Array, offset: int | jax.Array) -> jax.Array:
    """What stochastic rounding counts from; see problem.h. Empty for nearest."""
    if not isinstance(offset, jax.Array):
        offset = contract.check_offset(offset)
    words = (jax_arguments.seeds("seed", seed), *_halves("offset", offset))
    if words[0].ndim:
        raise TypeError(f"seed must be one integer, got an array of shape {words[0].shape}")
    if contract.ROUNDINGS[codec.rounding] == "nearest":
        return jnp.zeros((0,), jnp.uint32)
    return jnp.stack(jax_calls.vary_alike(words))


def _halves(name: str, number: int | jax.Array) -> tuple[jax.Array, jax.Array]:
    """The low and the high 32 bits of an integer of 64."""
    if isinstance(number, int):
        low, high = number & 0xFFFFFFFF, number >> 32 & 0xFFFFFFFF
        return jnp.uint32(low), jnp.uint32(high)
    if number.ndim or not jnp.issubdtype(number.dtype, jnp.integer):
        raise TypeError(
            f"{name} must be an integer, got {number.dtype.name} of shape {number.shape}"
        )
    wide = number.dtype.itemsize > np.dtype(np.uint32).itemsize
    return number.astype(jnp.uint32), jnp.uint32(number >> 32 if wide else 0)


def _quantized(
    function: str,
    backend: str,
    inputs: tuple[jax.Array, ...],
    has_residual: bool,
    payload: tuple[tuple[int, ...], Any],
    codec: Codec,
    layout: Layout,
    multiplier: float = 1.0,
) -> Any:
    """Runs "quantize" or "reduce_quantize"; gives the payload and, if it has one, the residual."""
    inputs = jax_calls.vary_alike(inputs)
    residual = inputs[-1]
    outputs = (jax_calls.like(residual), jax_calls.like(residual, *payload))
    new, done = _call(function, backend, inputs, outputs, codec, layout, multiplier)
    return (done, new) if has_residual else done


def _call(
    function: str,
    backend: str,
    inputs: tuple[jax.Array, ...],
    outputs: tuple[jax.ShapeDtypeStruct, ...],
    codec: Codec,
    layout: Layout,
    multiplier: float = 1.0,
) -> Sequence[jax.Array]:
    """Runs a function of problem.h on its arrays."""
    inputs = tuple(map(jax.lax.stop_gradient, inputs))
    if backend == "reference":
        return _callback(function, inputs, outputs, codec, layout, multiplier)
    # The residual is updated in place where XLA may give it up.
    aliases = {len(inputs) - 1: 0} if len(outputs) > 1 else {}
    call = jax.ffi.ffi_call(
        f"hpc_{function}", outputs, input_output_aliases=aliases, vmap_method="sequential"
    )
    numbers = jax_calls.attributes(codec) | jax_calls.attributes(layout)
    return call(*inputs, **numbers, multiplier=np.float64(multiplier))


def _callback(
    function: str,
    inputs: tuple[jax.Array, ...],
    outputs: tuple[jax.ShapeDtypeStruct, ...],
    codec: Codec,
    layout: Layout,
    multiplier: float,
) -> Sequence[jax.Array]:
    """Runs the numpy specification on the host."""
    run = getattr(reference_calls, function)

    def host(*arrays: jax.Array) -> list[np.ndarray]:
        # An empty array is none, but for the values, which come second or alone.
        given = [
            None if len(arrays) > 1 and i != 1 and not x.size else np.asarray(x)
            for i, x in enumerate(arrays)
        ]
        results = run(*given, layout=layout, codec=codec, multiplier=multiplier)
        return [
            np.zeros(s.shape, s.dtype) if r is None else r.astype(s.dtype).reshape(s.shape)
            for r, s in zip(results, outputs, strict=True)
        ]

    return jax.pure_callback(host, outputs, *inputs, vmap_method="sequential")
