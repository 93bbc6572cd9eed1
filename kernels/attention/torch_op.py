"""Attention for PyTorch: one custom operator for CPU and CUDA tensors, with gradients.

    from kernels.attention import torch_op
    out = torch_op.attention(q, k, v, causal=True)

Works under torch.compile (fullgraph=True too), torch.func's transforms, autocast and forward-mode
differentiation, and runs the same native code as `jax_op`.
"""

from typing import Any, Literal, TypedDict, Unpack, overload

import torch

from kernels import arguments, torch_arguments
from kernels.attention import _native, contract, torch_calls
from kernels.attention.contract import Extras, Options, Sizes
from kernels.attention.rope import Rope, RopeTables, rope_tables
from kernels.portable import is_portable
from kernels.torch_tensors import MaybeTensor, dtype_name, sum_dtype


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
    q, k, v = torch_arguments.tensors(q=q, k=k, v=v)
    return_lse = arguments.boolean("return_lse", return_lse)
    sizes = contract.check_shapes(q.shape, k.shape, v.shape)
    contract.check_dtypes(dtype_name(q), dtype_name(k), dtype_name(v))
    if not q.device == k.device == v.device:
        raise ValueError(
            f"q, k and v must be on one device, got {q.device}, {k.device} and {v.device}"
        )
    backend = contract.select(q.device.type, dtype_name(q), sizes.head_dim)
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
        contract.check_cuda(sizes, options, extras)
    if padding := contract.head_padding(backend, sizes.head_dim):
        q, k, v = (torch.nn.functional.pad(x, (0, padding)) for x in (q, k, v))
    out, lse = torch_calls.attention(q, k, v, extras, options, backend)
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
    return contract.explain(q.device.type, dtype_name(q), sizes.head_dim, native)


def _slopes(q: torch.Tensor, slopes: torch.Tensor | None, sizes: Sizes) -> torch.Tensor | None:
    if slopes is None:
        return None
    torch_arguments.real_tensor("alibi_slopes", slopes, or_else=" or None")
    contract.check_alibi_shape(tuple(slopes.shape), sizes)
    slopes = slopes.to(q.device, sum_dtype(q))
    if slopes.ndim == 2:
        return slopes
    if torch.compiler.is_compiling():  # A loop would make one graph for each size of the batch.
        return slopes.expand(sizes.batch, -1)
    # By doubling: so the gradients of the rows are added up in pairs, in the same order in JAX.
    rows = slopes[None]
    while rows.shape[0] < sizes.batch:
        rows = torch.cat((rows, rows))
    return rows[: sizes.batch]


def _rope_arrays(
    q: torch.Tensor, rope: Rope | RopeTables | None, sizes: Sizes, options: Options
) -> tuple[MaybeTensor, MaybeTensor]:
    if rope is None:
        return None, None
    positions = max(sizes.seq_q, sizes.seq_k)
    if isinstance(rope, Rope):
        base, offset = contract.rope_numbers(rope)
        if is_portable():  # As numbers, and not by an operator that only this project has.
            tables = rope_tables(positions, options.rotary_dim, base=base, offset=offset)
            cos, sin = (torch.tensor(x, dtype=sum_dtype(q), device=q.device) for x in tables)
            return cos, sin
        cos, sin = torch_calls.rope_tables(
            positions, options.rotary_dim, base, offset, sum_dtype(q), q.device
        )
        return cos, sin
    for name, table in (("cos", rope.cos), ("sin", rope.sin)):
        torch_arguments.tensor(f"rope's {name}", table)
    cos, sin = (x.detach()[:positions].to(q.device, sum_dtype(q)) for x in (rope.cos, rope.sin))
    return cos, sin


def _segments(
    q: torch.Tensor,
    segment_ids: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None,
    sizes: Sizes,
) -> tuple[MaybeTensor, MaybeTensor]:
    if segment_ids is None:
        return None, None
    for x in segment_ids if isinstance(segment_ids, tuple) else (segment_ids,):
        torch_arguments.tensor("segment_ids", x, or_else=", a pair of them or None")
    q_segments, kv_segments = contract.split_segment_ids(segment_ids, sizes)
    # Of any width: `torch_calls` makes them int32, once their values are known.
    return q_segments.to(q.device), kv_segments.to(q.device)


def _seeds(
    q: torch.Tensor, rate: float, seed: int | torch.Tensor | None, sizes: Sizes
) -> torch.Tensor | None:
    """[batch] int32 with the bits of the seed of each row; see `contract.SEED_STEP`."""
    contract.check_dropout_seed(rate, seed)
    if seed is None:
        return None
    if isinstance(seed, torch.Tensor):
        torch_arguments.tensor("dropout_seed", seed)
        arguments.integer_dtype("dropout_seed", dtype_name(seed))
        seeds = seed.to(q.device, torch.int64)
    else:
        number = arguments.integer("dropout_seed", seed, or_else=", a torch Tensor or None")
        seeds = torch.tensor(number & 0xFFFFFFFF, dtype=torch.int64, device=q.device)
    if seeds.ndim and tuple(seeds.shape) != (sizes.batch,):
        raise ValueError(
            f"dropout_seed must be an integer or [batch], ({sizes.batch},), "
            f"got shape {tuple(seeds.shape)}"
        )
    rows = torch.arange(sizes.batch, device=q.device)
    bits = (seeds + contract.SEED_STEP * rows) & 0xFFFFFFFF
    return torch.where(bits < 2**31, bits, bits - 2**32).to(torch.int32)
