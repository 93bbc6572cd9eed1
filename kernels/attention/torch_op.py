"""Attention for PyTorch: one custom operator for CPU and CUDA tensors, with gradients.

    from kernels.attention import torch_op
    out = torch_op.attention(q, k, v, causal=True)

The operators `hpc::attention_forward` and `hpc::attention_backward` are opaque to torch.compile
(fullgraph=True works) and run the same native code as `jax_op`.
"""

from typing import Any, Literal, TypeAlias, TypedDict, Unpack, overload

import numpy as np
import torch

from kernels import cubin_loader
from kernels.attention import _native, contract, reference, torch_segments
from kernels.attention.contract import Extras, Options, Sizes
from kernels.attention.rope import Rope, RopeTables, rope_tables

_ALIGNMENT_BYTES = 16

# Looked up several times a call; str(dtype) takes a microsecond.
_DTYPE_NAMES = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
    torch.float64: "float64",
}

MaybeTensor: TypeAlias = torch.Tensor | None


class _Options(TypedDict, total=False):
    """What `attention` takes besides q, k, v and return_lse."""

    causal: bool
    softmax_scale: float | None
    alibi_slopes: torch.Tensor | None
    rope: Rope | RopeTables | None
    window: contract.Window | None
    segment_ids: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None
    softcap: float | None
    dropout_rate: float
    dropout_seed: int | torch.Tensor | None


@overload
def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    return_lse: Literal[False] = ...,
    **options: Unpack[_Options],
) -> torch.Tensor: ...
@overload
def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    return_lse: Literal[True],
    **options: Unpack[_Options],
) -> tuple[torch.Tensor, torch.Tensor]: ...
def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = False,
    softmax_scale: float | None = None,
    alibi_slopes: torch.Tensor | None = None,
    rope: Rope | RopeTables | None = None,
    window: contract.Window | None = None,
    segment_ids: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None = None,
    softcap: float | None = None,
    dropout_rate: float = 0.0,
    dropout_seed: int | torch.Tensor | None = None,
    return_lse: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
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
      softmax_scale: 1 / sqrt(head_dim) unless given.
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
      dropout_seed: an integer, or [batch] integers, of which 32 bits count. Needed for dropout: the
        same seed drops the same, on every device.
      return_lse: return the log-sum-exp of the scores too. Differentiable.

    Returns:
      A contiguous tensor with the shape, dtype and device of q; zeros where a query sees no key.
      With return_lse, a pair of it and [batch, num_heads, seq_q] in the type of the sums; -inf
      where a query sees no key.

    Raises:
      TypeError: dtypes differ, or an option is not of its type.
      ValueError: shapes do not fit, an option is out of range, devices differ, or no backend serves
        this dtype and device.

    Reference: Dao, "FlashAttention-2", 2023, arXiv:2307.08691.
    """
    sizes = contract.check_shapes(q.shape, k.shape, v.shape)
    contract.check_dtypes(_dtype_name(q), _dtype_name(k), _dtype_name(v))
    if not q.device == k.device == v.device:
        raise ValueError(
            f"q, k and v must be on one device, got {q.device}, {k.device} and {v.device}"
        )
    backend = contract.select(q.device.type, _dtype_name(q), sizes.head_dim)
    options = contract.resolve_options(
        sizes,
        causal=causal,
        softmax_scale=softmax_scale,
        window=window,
        softcap=softcap,
        dropout_rate=dropout_rate,
        rope=rope,
    )
    cos, sin = _rope_arrays(q, rope, sizes, options)
    q_segments, kv_segments = _segments(q, segment_ids, sizes)
    extras = Extras(
        _slopes(q, alibi_slopes, sizes),
        cos,
        sin,
        q_segments,
        kv_segments,
        _seeds(q, dropout_rate, dropout_seed, sizes),
    )
    if backend == "cuda":
        contract.check_hopper(sizes, options, extras)
    if padding := contract.head_padding(backend, sizes.head_dim):
        q, k, v = (torch.nn.functional.pad(x, (0, padding)) for x in (q, k, v))
    out: torch.Tensor
    lse: torch.Tensor
    out, lse = _forward(q, k, v, *extras, *options)
    if padding:
        out = out[..., : sizes.head_dim]
    return (out, lse) if return_lse else out


def explain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> str:
    """Returns a line for each backend: whether and why `attention(q, k, v, **options)` takes it.

    Raises:
      ValueError: shapes do not fit, or no backend serves this dtype and device.
    """
    sizes = contract.check_shapes(q.shape, k.shape, v.shape)
    threads, instructions = _native.num_threads(), _native.cpu_isa()
    if q.dtype == torch.bfloat16 and _native.matrix_isa() != "none":
        instructions = _native.matrix_isa()
    native = f"{instructions} on {threads} threads"
    return contract.explain(q.device.type, _dtype_name(q), sizes.head_dim, native)


def _slopes(q: torch.Tensor, slopes: torch.Tensor | None, sizes: Sizes) -> torch.Tensor | None:
    if slopes is None:
        return None
    contract.check_alibi_shape(tuple(slopes.shape), sizes)
    slopes = slopes.to(q.device, _sum_dtype(q))
    if slopes.ndim == 2:
        return slopes
    # By doubling: so the gradients of the rows are added up in pairs, in the same order in JAX.
    rows = slopes[None]
    while rows.shape[0] < sizes.batch:
        rows = torch.cat((rows, rows))
    return rows[: sizes.batch]


@torch.compiler.assume_constant_result
def _tables(
    rope: Rope, positions: int, rotary_dim: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, ...]:
    tables = rope_tables(positions, rotary_dim, base=rope.base, offset=rope.offset)
    return tuple(torch.from_numpy(x).to(device, dtype) for x in tables)


def _rope_arrays(
    q: torch.Tensor, rope: Rope | RopeTables | None, sizes: Sizes, options: Options
) -> tuple[MaybeTensor, MaybeTensor]:
    if rope is None:
        return None, None
    positions = max(sizes.seq_q, sizes.seq_k)
    if isinstance(rope, Rope):
        cos, sin = _tables(rope, positions, options.rotary_dim, _sum_dtype(q), q.device)
        return cos, sin
    tables = (x.detach()[:positions].to(q.device, _sum_dtype(q)) for x in (rope.cos, rope.sin))
    cos, sin = tables
    return cos, sin


def _segments(
    q: torch.Tensor,
    segment_ids: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None,
    sizes: Sizes,
) -> tuple[MaybeTensor, MaybeTensor]:
    if segment_ids is None:
        return None, None
    q_segments, kv_segments = contract.split_segment_ids(segment_ids, sizes)
    for x in (q_segments, kv_segments):
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"segment_ids must be tensors, got {type(x).__name__}")
    # Of any width: `_prepare_all` makes them int32, once their values are known.
    return q_segments.to(q.device), kv_segments.to(q.device)


def _seeds(
    q: torch.Tensor, rate: float, seed: int | torch.Tensor | None, sizes: Sizes
) -> torch.Tensor | None:
    """[batch] int32 with the bits of the seed of each row; see `contract.SEED_STEP`."""
    contract.check_dropout_seed(rate, seed)
    if seed is None:
        return None
    if isinstance(seed, int):
        seed &= 0xFFFFFFFF
    seeds = torch.as_tensor(seed, dtype=torch.int64, device=q.device)
    if tuple(seeds.shape) not in ((), (sizes.batch,)):
        raise ValueError(
            f"dropout_seed must be an integer or [batch], ({sizes.batch},), "
            f"got shape {tuple(seeds.shape)}"
        )
    rows = torch.arange(sizes.batch, device=q.device)
    bits = (seeds + contract.SEED_STEP * rows) & 0xFFFFFFFF
    return torch.where(bits < 2**31, bits, bits - 2**32).to(torch.int32)


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
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns out and lse [batch, num_heads, seq_q]."""
    q, k, v = map(_prepare, (q, k, v))
    extras = _prepare_all(alibi_slopes, rope_cos, rope_sin, q_segments, kv_segments, dropout_seeds)
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
    _run("forward", (q, k, v, out, lse), options, extras)
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
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the gradients of q, k, v and the slopes [batch, num_heads] (zeros unless wanted)."""
    q, k, v, out, lse, grad_out = map(_prepare, (q, k, v, out, lse, grad_out))
    extras = _prepare_all(alibi_slopes, rope_cos, rope_sin, q_segments, kv_segments, dropout_seeds)
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
    grad_lse = None if grad_lse is None else _prepare(grad_lse)
    tensors = (q, k, v, out, lse, grad_out, grad_lse, *grads, grad_slopes, delta)
    _run("backward", tensors, options, extras)
    slopes_shape = lse.shape[:2]
    return *grads, lse.new_zeros(slopes_shape) if grad_slopes is None else grad_slopes.sum(-1)


@_forward.register_fake
def _forward_fake(q, k, v, *extras_and_options):  # type: ignore[no-untyped-def]
    return _empty_results(q)


@_backward.register_fake
def _backward_fake(q, k, v, out, lse, *others):  # type: ignore[no-untyped-def]
    return (*(x.new_empty(x.shape) for x in (q, k, v)), lse.new_empty(lse.shape[:2]))


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    tensors, ctx.options = inputs[:9], inputs[9:]
    ctx.save_for_backward(*tensors, *output)
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_out, grad_lse):  # type: ignore[no-untyped-def]
    q, k, v, *extras, out, lse = ctx.saved_tensors
    grad_out = torch.zeros_like(out) if grad_out is None else grad_out
    wanted = ctx.needs_input_grad[3]
    grads = _backward(q, k, v, out, lse, grad_out, grad_lse, wanted, *extras, *ctx.options)
    unused = (None,) * (5 + len(ctx.options))
    return *grads[:3], grads[3] if wanted else None, *unused


_forward.register_autograd(_gradients, setup_context=_setup_context)


def _sum_dtype(x: torch.Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _empty_results(q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Makes out and lse, contiguous whatever the layout of q."""
    batch, seq_q, num_heads, _ = q.shape
    return q.new_empty(q.shape), q.new_empty((batch, num_heads, seq_q), dtype=_sum_dtype(q))


def _run(
    direction: str, tensors: tuple[torch.Tensor | None, ...], options: Options, extras: Extras
) -> None:
    """Runs "forward" or "backward" on tensors in the order of problem.h."""
    q, k = tensors[:2]
    assert q is not None and k is not None
    batch, seq_q, num_heads, head_dim = q.shape
    sizes = Sizes(batch, seq_q, k.shape[1], num_heads, k.shape[2], head_dim)
    dtype = _dtype_name(q)
    backend = contract.select(q.device.type, dtype, sizes.head_dim)
    if backend == "cpu":
        _native.limit_threads(torch.get_num_threads())
        run = getattr(_native, f"{direction}_cpu")
        run(dtype, sizes, options, _addresses(*tensors, None, None, *extras))
    elif q.device.type == "cuda":
        cubin_loader.ensure_registered(_native)
        run = getattr(_native, f"{direction}_{'sm90' if backend == 'cuda' else 'cuda'}")
        rotated = _rotated(direction, q, k, sizes, options)
        stream = torch.cuda.current_stream(q.device).cuda_stream
        addresses = _addresses(*tensors, *rotated, *extras)
        run(dtype, sizes, options, addresses, q.device.index, stream)
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
    direction: str, tensors: tuple[torch.Tensor | None, ...], options: Options, extras: Extras
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


def _addresses(*tensors: torch.Tensor | None) -> list[int]:
    return [0 if x is None else x.data_ptr() for x in tensors]


def _prepare(x: torch.Tensor) -> torch.Tensor:
    """Contiguous, and aligned as the vector loads of the CUDA kernels need it."""
    x = x.contiguous()
    return x if x.data_ptr() % _ALIGNMENT_BYTES == 0 else x.clone()


def _prepare_all(*tensors: torch.Tensor | None) -> Extras:
    extras = Extras(*(None if x is None else _prepare(x) for x in tensors))
    if extras.q_segments is None:
        return extras
    q_segments, kv_segments = torch_segments.narrow(extras.q_segments, extras.kv_segments)
    return extras._replace(q_segments=q_segments, kv_segments=kv_segments)


def _dtype_name(x: torch.Tensor) -> str:
    return _DTYPE_NAMES.get(x.dtype) or str(x.dtype).removeprefix("torch.")
