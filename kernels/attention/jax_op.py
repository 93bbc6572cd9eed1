"""Attention for JAX: one XLA FFI call for CPU and CUDA, with gradients.

    from kernels.attention import jax_op
    out = jax_op.attention(q, k, v, causal=True)

Works under jit, grad, jvp, vmap (which folds into the batch) and `jax.shard_map`, and runs the same
native code as `torch_op`. Under jit the backend is chosen when the function is traced. Under
automatic sharding the call is opaque: XLA gathers its inputs, so wrap it in `jax.shard_map` over
batch or heads.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, TypedDict, Unpack, overload

import jax
import jax.numpy as jnp
import numpy as np

from kernels import arguments, cubin_loader, jax_arguments, jax_calls, jax_derivatives
from kernels.attention import _native, contract, formula_jax, jax_segments, reference
from kernels.attention.contract import Extras, Options, Sizes
from kernels.attention.rope import Rope, RopeTables, rope_tables
from kernels.dispatch import UnsupportedKernelError
from kernels.portable import is_portable

for _target, _platform, _handler in _native.xla_handlers():
    jax.ffi.register_ffi_target(_target, _handler, platform=_platform)


class _Options(TypedDict, total=False):
    """What `attention` takes besides q, k, v and return_lse."""

    causal: bool
    softmax_scale: float | None
    alibi_slopes: jax.Array | None
    rope: Rope | RopeTables | None
    window: contract.Window | None
    segment_ids: jax.Array | tuple[jax.Array, jax.Array] | None
    softcap: float | None
    dropout_rate: float
    dropout_seed: int | jax.Array | None


@overload
def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    return_lse: Literal[False] = ...,
    **options: Unpack[_Options],
) -> jax.Array: ...
@overload
def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    return_lse: Literal[True],
    **options: Unpack[_Options],
) -> tuple[jax.Array, jax.Array]: ...
def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    causal: bool = False,
    softmax_scale: float | None = None,
    alibi_slopes: jax.Array | None = None,
    rope: Rope | RopeTables | None = None,
    window: contract.Window | None = None,
    segment_ids: jax.Array | tuple[jax.Array, jax.Array] | None = None,
    softcap: float | None = None,
    dropout_rate: float = 0.0,
    dropout_seed: int | jax.Array | None = None,
    return_lse: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Computes softmax(softmax_scale * q k^T) v for each head, with what changes the scores.

    Query i stands at position i + seq_k - seq_q and key j at position j: the last query is as far
    as the last key. All options may be combined; docs/kernels.md has the formula.

    Args:
      q: [batch, seq_q, num_heads, head_dim].
      k: [batch, seq_k, num_kv_heads, head_dim]; num_heads is a multiple of num_kv_heads and query
        head h reads key head h // (num_heads // num_kv_heads).
      v: as k. One dtype for all: float16, bfloat16, float32 or, on CPU, float64; head_dim up to 256
        on CUDA. Sums are float32, or float64 for float64.
      causal: a query sees no key of a later position.
      softmax_scale: 1 / sqrt(head_dim) unless given. Like every number below, a Python number and
        not a traced array.
      alibi_slopes: [num_heads] or [batch, num_heads]; scores are lowered by slope times distance.
        Differentiable.
      rope: q and k are turned by their positions; see `kernels.attention.rope`.
      window: (left, right): a query sees keys at most so many positions before and after its own;
        None for a side without a limit.
      segment_ids: [batch, seq_len] integers, or a pair of them for queries and for keys: a query
        sees the keys of its own segment only; negative ones (padding) see nothing.
      softcap: scores s become softcap * tanh(s / softcap), before ALiBi and masks.
      dropout_rate: probability in [0, 1) that a softmax probability becomes 0; the others grow by
        1 / (1 - dropout_rate).
      dropout_seed: an integer, or [batch] integers, of which 32 bits count; may be traced. Needed
        for dropout: the same seed drops the same, on every device. A key of `jax.random.key`, or
        [batch] keys, stands for `jax.random.bits(key, dtype="uint32")`; a key of the old kind,
        which is an array as any other, wants `jax.random.wrap_key_data`.
      return_lse: return the log-sum-exp of the scores too. Differentiable.

    Returns:
      An array with the shape and dtype of q; zeros where a query sees no key. With return_lse, a
      pair of it and [batch, num_heads, seq_q] in the type of the sums; -inf where a query sees no
      key.

    Raises:
      TypeError: dtypes differ, or an option is not of its type.
      ValueError: shapes do not fit, an option is out of range, or no backend serves this dtype and
        device.

    Reference: Dao, "FlashAttention-2", 2023, arXiv:2307.08691.
    """
    q, k, v = jax_arguments.arrays(q=q, k=k, v=v)
    return_lse = arguments.boolean("return_lse", return_lse)
    sizes = contract.check_shapes(q.shape, k.shape, v.shape)
    contract.check_dtypes(q.dtype.name, k.dtype.name, v.dtype.name)
    backend = _select(q, sizes)
    options = contract.resolve_options(
        sizes,
        causal=causal,
        softmax_scale=softmax_scale,
        window=window,
        softcap=softcap,
        dropout_rate=dropout_rate,
        rope=rope,
    )
    extras = Extras(
        _slopes(q, alibi_slopes, sizes),
        *_rope_arrays(q, rope, sizes, options),
        *_segments(segment_ids, sizes),
        _seeds(dropout_rate, dropout_seed, sizes),
    )
    if backend == "cuda":
        contract.check_cuda(sizes, options, extras)
    q, k, v, extras = jax_calls.vary_alike((q, k, v, extras))
    padding = contract.head_padding(backend, sizes.head_dim)
    if padding:
        q, k, v = (jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, padding))) for x in (q, k, v))
    out, lse = jax_derivatives.call(_Attention(options, backend), q, k, v, *extras)
    if padding:
        out = out[..., : sizes.head_dim]
    return (out, lse) if return_lse else out


def explain(q: jax.Array, k: jax.Array, v: jax.Array, **options: Any) -> str:
    """Returns a line for each backend: whether and why `attention(q, k, v, **options)` takes it.

    Raises:
      ValueError: shapes do not fit, or no backend serves this dtype and device.
    """
    sizes = contract.check_shapes(q.shape, k.shape, v.shape)
    threads, instructions = _native.num_threads(), _native.cpu_isa()
    if q.dtype == jnp.bfloat16 and _native.matrix_isa() != "none":
        instructions = _native.matrix_isa()
    native = f"{instructions} on {threads} threads"
    return contract.explain(jax_calls.device(q), q.dtype.name, sizes.head_dim, native)


def _select(q: jax.Array, sizes: Sizes) -> str:
    device = jax_calls.device(q)
    backend = contract.select(device, q.dtype.name, sizes.head_dim)
    if backend in ("triton", "cuda"):
        if device != "cuda":
            raise UnsupportedKernelError(f"attention's {backend} backend serves JAX on cuda only")
        cubin_loader.ensure_registered(_native)
    return backend


def _slopes(q: jax.Array, slopes: jax.Array | None, sizes: Sizes) -> jax.Array | None:
    if slopes is None:
        return None
    slopes = jax_arguments.real_array("alibi_slopes", slopes, or_else=" or None")
    contract.check_alibi_shape(slopes.shape, sizes)
    slopes = slopes.astype(jax_calls.sum_dtype(q))
    if slopes.ndim == 2:
        return slopes
    if is_portable():  # A loop would want to know the size of the batch.
        return jnp.broadcast_to(slopes, (sizes.batch, sizes.num_heads))
    # By doubling: so the gradients of the rows are added up in pairs, in the same order in torch.
    rows = slopes[None]
    while rows.shape[0] < sizes.batch:
        rows = jnp.concatenate((rows, rows))
    return rows[: sizes.batch]


def _rope_arrays(
    q: jax.Array, rope: Rope | RopeTables | None, sizes: Sizes, options: Options
) -> tuple[jax.Array | None, jax.Array | None]:
    if rope is None:
        return None, None
    positions = max(sizes.seq_q, sizes.seq_k)
    if isinstance(rope, Rope):
        base, offset = contract.rope_numbers(rope)
        tables = rope_tables(positions, options.rotary_dim, base=base, offset=offset)
    else:
        for name, table in (("cos", rope.cos), ("sin", rope.sin)):
            jax_arguments.array(f"rope's {name}", table)
        tables = rope.cos[:positions], rope.sin[:positions]
    cos, sin = (jax.lax.stop_gradient(jnp.asarray(x, jax_calls.sum_dtype(q))) for x in tables)
    return cos, sin


def _segments(
    segment_ids: jax.Array | tuple[jax.Array, jax.Array] | None, sizes: Sizes
) -> tuple[jax.Array | None, jax.Array | None]:
    if segment_ids is None:
        return None, None
    for x in segment_ids if isinstance(segment_ids, tuple) else (segment_ids,):
        jax_arguments.array("segment_ids", x, or_else=", a pair of them or None")
    return jax_segments.narrow(*contract.split_segment_ids(segment_ids, sizes))


def _seeds(rate: float, seed: int | jax.Array | None, sizes: Sizes) -> jax.Array | None:
    """[batch] uint32, the seed of each row; see `contract.SEED_STEP`."""
    contract.check_dropout_seed(rate, seed)
    if seed is None:
        return None
    seeds = jax_arguments.seeds("dropout_seed", seed)
    if seeds.shape not in ((), (sizes.batch,)):
        raise ValueError(
            f"dropout_seed must be an integer or [batch], ({sizes.batch},), got shape {seeds.shape}"
        )
    return seeds + jnp.uint32(contract.SEED_STEP) * jnp.arange(sizes.batch, dtype=jnp.uint32)


@dataclasses.dataclass(frozen=True)
class _Attention:
    """Attention as `jax_derivatives` takes it: of q, k, v and the extras, to out and lse."""

    options: Options
    backend: str
    num_differentiable = 4
    # The tables of RoPE.
    unbatched = (4, 5)

    def forward(self, *inputs: Any) -> tuple[jax.Array, ...]:
        q, k, v, *extras = inputs
        operands = (q, k, v, *_present(Extras(*extras), q))
        return _forward(self.options, self.backend, *jax_calls.vary_alike(operands))

    def backward(
        self, inputs: Any, outputs: Any, grads: Any, wanted: tuple[int, ...]
    ) -> tuple[jax.Array, ...]:
        q, k, v, *extras = inputs
        out, lse = outputs
        grad_out, grad_lse = grads
        grad_out = jnp.zeros_like(out) if grad_out is None else grad_out
        grad_lse = _absent(lse.dtype) if grad_lse is None else grad_lse
        operands = (q, k, v, out, lse, grad_out, grad_lse, *_present(Extras(*extras), q))
        *gradients, slopes = _backward(
            self.options, self.backend, 3 in wanted, *jax_calls.vary_alike(operands)
        )
        gradients.append(jnp.sum(slopes, axis=-1))
        return tuple(gradients[i] for i in wanted)

    def formula(self, *inputs: Any) -> tuple[jax.Array, ...]:
        q, k, v, *extras = inputs
        return formula_jax.attention(q, k, v, Extras(*extras), self.options)


def _absent(dtype: Any) -> jax.Array:
    """What the native code takes for no array."""
    return jnp.zeros((0,), dtype)


def _present(extras: Extras, q: jax.Array) -> tuple[jax.Array, ...]:
    """All extras as arrays."""
    sums = jax_calls.sum_dtype(q)
    dtypes = Extras(sums, sums, sums, jnp.int32, jnp.int32, jnp.uint32)
    return tuple(_absent(d) if x is None else x for x, d in zip(extras, dtypes, strict=True))


def _forward(options: Options, backend: str, *args: jax.Array) -> tuple[jax.Array, ...]:
    """Returns out and lse [batch, num_heads, seq_q], from q, k, v and the extras."""
    q, k, *_ = args
    shapes = (jax_calls.like(q), _lse_shape(q))
    if backend == "reference":

        def spec(q, k, v, *extras):  # type: ignore[no-untyped-def]
            return reference.forward(q, k, v, options, _given(extras))

        return _callback(spec, shapes, *args)
    call = jax.ffi.ffi_call(
        _target_of("forward", backend),
        (*shapes, *_workspace("forward", q, k, options, backend)),
    )
    return tuple(call(*args, **jax_calls.attributes(options))[:2])


def _backward(
    options: Options, backend: str, slopes_wanted: bool, *args: jax.Array
) -> tuple[jax.Array, ...]:
    """Returns the gradients of q, k, v and the slopes.

    From q, k, v, out, lse, grad_out, grad_lse and the extras. The slopes' gradient is [batch,
    num_heads, seq_q], to be summed, or empty unless wanted.
    """
    q, k, v, _, lse, *_ = args
    grad_slopes = jax_calls.like(lse) if slopes_wanted else jax_calls.like(lse, (0,))
    shapes = (jax_calls.like(q), jax_calls.like(k), jax_calls.like(v), grad_slopes)
    if backend == "reference":

        def spec(q, k, v, out, lse, grad_out, grad_lse, *extras):  # type: ignore[no-untyped-def]
            grad_lse = grad_lse if grad_lse.size else 0.0
            *grads, slopes = reference.backward(
                q, k, v, grad_out, options, _given(extras), grad_lse
            )
            share = np.broadcast_to(slopes[..., None] / lse.shape[-1], lse.shape)
            return *grads, share if slopes_wanted else np.zeros(0)

        return _callback(spec, shapes, *args)
    outputs = (*shapes, _lse_shape(q), *_workspace("backward", q, k, options, backend))
    call = jax.ffi.ffi_call(_target_of("backward", backend), outputs)
    return tuple(call(*args, **jax_calls.attributes(options))[:4])


def _target_of(direction: str, backend: str) -> str:
    """The name of the native call; that of most backends is the same for every platform."""
    return f"hpc_attention_{direction}{'_cuda' if backend == 'cuda' else ''}"


def _given(extras: tuple[np.ndarray, ...]) -> Extras:
    """What `_present` was made of; seeds of an empty batch are empty too."""
    *others, seeds = extras
    return Extras(*(None if x.shape == (0,) else x for x in others))._replace(dropout_seeds=seeds)


def _lse_shape(q: jax.Array) -> jax.ShapeDtypeStruct:
    batch, seq_q, num_heads, _ = q.shape
    return jax_calls.like(q, (batch, num_heads, seq_q), jax_calls.sum_dtype(q))


def _workspace(
    direction: str, q: jax.Array, k: jax.Array, options: Options, backend: str
) -> tuple[jax.ShapeDtypeStruct, ...]:
    """For q and k as RoPE turns them, where that is a pass of its own."""
    sizes = contract.check_shapes(q.shape, k.shape, k.shape)
    if backend != "cpu" and contract.rotates_first(direction, sizes, options):
        return jax_calls.like(q), jax_calls.like(k)
    return jax_calls.like(q, (0,)), jax_calls.like(k, (0,))


def _callback(
    spec: Callable[..., tuple[reference.Array, ...]],
    shapes: tuple[jax.ShapeDtypeStruct, ...],
    *args: jax.Array,
) -> tuple[jax.Array, ...]:
    """Runs the numpy specification on the host."""

    def host(*arrays: jax.Array) -> tuple[np.ndarray, ...]:
        results = spec(*map(np.asarray, arrays))
        return tuple(np.asarray(r, s.dtype) for r, s in zip(results, shapes, strict=True))

    results = jax.pure_callback(host, shapes, *args)
    # Those of a callback count as the same on every device of a mesh.
    return tuple(jax_calls.vary_alike((*results, *args))[: len(results)])
