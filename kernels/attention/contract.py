"""What attention accepts, the same for every backend and both frameworks.

Shape letters: B batch, Sq and Sk sequence lengths, H query heads, G key heads, D head dimension.
"""

import math
import os
from typing import Any, NamedTuple

from kernels import arguments
from kernels.attention.rope import Rope, RopeTables
from kernels.dispatch import Support, UnsupportedKernelError, explain_backends, select_backend

# Limits of the Triton kernels: a program holds a whole head in registers, and reads it in vectors
# of 16 bytes.
TRITON_MAX_HEAD_DIM = 256
TRITON_HEAD_DIM_MULTIPLE = 8
CUDA_HEAD_DIMS = (64, 128)

# The devices and dtypes of each backend.
SUPPORT: Support = {
    "cpu": {"cpu": frozenset({"float16", "bfloat16", "float32", "float64"})},
    "triton": {"cuda": frozenset({"float16", "bfloat16", "float32"})},
    "cuda": {"cuda": frozenset({"float16", "bfloat16"})},
    "reference": {"cpu": frozenset({"float16", "bfloat16", "float32", "float64"})},
}
if os.environ.get("TRITON_INTERPRET") == "1":
    # Triton's interpreter, for tests. Of bfloat16 it multiplies the bits instead of the values.
    SUPPORT = {**SUPPORT, "triton": {"cpu": frozenset({"float16", "float32"})}}

# A side of the window without a limit, in `Options`.
UNBOUNDED = -1

Window = tuple[int | None, int | None]

# The seed of batch row b is dropout_seed + b * SEED_STEP, modulo 2 ** 32, so that a mapped axis can
# become part of the batch.
SEED_STEP = 0x85EBCA6B

# Fewer queries than these are one block, in which the Triton forward kernel turns q and k as it
# reads them. From here on each block would turn each key again: RoPE is a pass of its own. So the
# blocks are cut; where the crossover is has not yet been measured on a GPU.
ROTATE_FIRST_QUERIES = 17


class Sizes(NamedTuple):
    """The sizes of one attention problem, in the order in which the native code takes them."""

    batch: int
    seq_q: int
    seq_k: int
    num_heads: int
    num_kv_heads: int
    head_dim: int


class Options(NamedTuple):
    """What else a problem is known by, in the order in which the native code takes it.

    Attributes:
      softmax_scale: factor of the scores.
      window_left, window_right: how far a query sees to either side; -1: without a limit.
      softcap: scores s become softcap * tanh(s / softcap); 0: as they are.
      dropout_rate: in [0, 1).
      rotary_dim: channels that RoPE turns; 0: none.
      rotary_interleaved: channel pairs are (2c, 2c + 1) instead of (c, c + rotary_dim / 2).
    """

    softmax_scale: float
    window_left: int = UNBOUNDED
    window_right: int = UNBOUNDED
    softcap: float = 0.0
    dropout_rate: float = 0.0
    rotary_dim: int = 0
    rotary_interleaved: bool = False


class Extras(NamedTuple):
    """Arrays that a problem may have besides q, k and v; None where it has not.

    Attributes:
      alibi_slopes: [B, H], in the type of the sums.
      rope_cos, rope_sin: [max(Sq, Sk), rotary_dim / 2], in the type of the sums.
      q_segments, kv_segments: [B, Sq] and [B, Sk] int32, both or none.
      dropout_seeds: [B], 32 bits each.
    """

    alibi_slopes: Any = None
    rope_cos: Any = None
    rope_sin: Any = None
    q_segments: Any = None
    kv_segments: Any = None
    dropout_seeds: Any = None


def check_shapes(
    q_shape: tuple[int, ...], k_shape: tuple[int, ...], v_shape: tuple[int, ...]
) -> Sizes:
    """Returns the sizes of a problem.

    Args:
      q_shape: [B, Sq, H, D].
      k_shape: [B, Sk, G, D], with H a multiple of G.
      v_shape: as k_shape.

    Raises:
      ValueError: the shapes are not those of an attention problem.
    """
    for name, shape in (("q", q_shape), ("k", k_shape), ("v", v_shape)):
        if len(shape) != 4:
            raise ValueError(
                f"{name} must be [batch, seq_len, num_heads, head_dim], got shape {tuple(shape)}"
            )
    if tuple(v_shape) != tuple(k_shape):
        raise ValueError(f"v must have the shape of k, {tuple(k_shape)}, got {tuple(v_shape)}")
    batch, seq_q, num_heads, head_dim = q_shape
    _, seq_k, num_kv_heads, _ = k_shape
    if (k_shape[0], k_shape[3]) != (batch, head_dim):
        raise ValueError(
            f"k must agree with q in batch ({batch}) and head_dim ({head_dim}), "
            f"got shape {tuple(k_shape)}"
        )
    if head_dim < 1:
        raise ValueError("head_dim must be positive, got 0")
    if num_heads < 1 or num_kv_heads < 1 or num_heads % num_kv_heads:
        raise ValueError(
            "num_heads must be a positive multiple of num_kv_heads, "
            f"got {num_heads} and {num_kv_heads}"
        )
    return Sizes(batch, seq_q, seq_k, num_heads, num_kv_heads, head_dim)


def check_dtypes(q_dtype: str, k_dtype: str, v_dtype: str) -> None:
    """Raises TypeError unless q, k and v have one dtype."""
    if not q_dtype == k_dtype == v_dtype:
        raise TypeError(f"q, k and v must have one dtype, got {q_dtype}, {k_dtype} and {v_dtype}")


def resolve_scale(softmax_scale: float | None, head_dim: int) -> float:
    """Returns the factor that scores are multiplied by: 1 / sqrt(head_dim) unless given.

    Raises:
      TypeError: softmax_scale is not a number known now (a traced array, say).
      ValueError: softmax_scale is not finite.
    """
    if softmax_scale is None:
        return 1.0 / math.sqrt(head_dim)
    return arguments.real("softmax_scale", softmax_scale, or_else=" or None")


def resolve_options(
    sizes: Sizes,
    *,
    causal: bool,
    softmax_scale: float | None,
    window: Window | None,
    softcap: float | None,
    dropout_rate: float,
    rope: Rope | RopeTables | None,
) -> Options:
    """Returns the options of a call of `attention`, whose arguments these are.

    Raises:
      TypeError: an argument is not of its type.
      ValueError: an argument is out of its range.
    """
    left, right = _resolve_window(window)
    is_causal = arguments.boolean("causal", causal)
    return Options(
        softmax_scale=resolve_scale(softmax_scale, sizes.head_dim),
        window_left=left,
        window_right=0 if is_causal else right,
        softcap=_resolve_softcap(softcap),
        dropout_rate=_resolve_dropout(dropout_rate),
        rotary_dim=_resolve_rotary_dim(rope, sizes),
        rotary_interleaved=rope is not None
        and arguments.boolean("rope's interleaved", rope.interleaved),
    )


def rope_numbers(rope: Rope) -> tuple[float, int]:
    """Returns the base and the offset of a rope.

    Raises:
      TypeError: one is not of its type.
      ValueError: the base is not positive.
    """
    base = arguments.real("rope's base", rope.base)
    if base <= 0:
        raise ValueError(f"rope's base must be positive, got {base}")
    return base, arguments.integer("rope's offset", rope.offset)


def check_alibi_shape(shape: tuple[int, ...], sizes: Sizes) -> None:
    """Raises ValueError unless slopes of this shape are one for each head, or row and head."""
    # Each compared by itself: torch.compile finds no symbolic sizes by `in`.
    is_per_head = tuple(shape) == (sizes.num_heads,)
    if not is_per_head and tuple(shape) != (sizes.batch, sizes.num_heads):
        raise ValueError(
            f"alibi_slopes must be [num_heads], ({sizes.num_heads},), or [batch, num_heads], "
            f"{(sizes.batch, sizes.num_heads)}, got shape {tuple(shape)}"
        )


def split_segment_ids(segment_ids: Any, sizes: Sizes) -> tuple[Any, Any]:
    """Returns the segments of queries and keys from the `segment_ids` of a call.

    Raises:
      TypeError: they are no arrays of integers.
      ValueError: shapes do not fit, or one array is given for two lengths.
    """
    if not isinstance(segment_ids, tuple):
        if sizes.seq_q != sizes.seq_k:
            raise ValueError(
                "segment_ids must be a pair (of queries, of keys) where seq_q and seq_k differ, "
                f"here {sizes.seq_q} and {sizes.seq_k}"
            )
        segment_ids = (segment_ids, segment_ids)
    if len(segment_ids) != 2:
        raise ValueError(f"segment_ids must be one array or a pair, got {len(segment_ids)} arrays")
    q_segments, kv_segments = segment_ids
    for name, got, seq_len in (("q", q_segments, sizes.seq_q), ("k", kv_segments, sizes.seq_k)):
        if tuple(got.shape) != (sizes.batch, seq_len):
            raise ValueError(
                f"segment_ids of {name} must be [batch, seq_len], {(sizes.batch, seq_len)}, "
                f"got shape {tuple(got.shape)}"
            )
    for x in segment_ids:
        arguments.integer_dtype("segment_ids", str(x.dtype).removeprefix("torch."))
    return q_segments, kv_segments


def check_dropout_seed(dropout_rate: float, dropout_seed: Any) -> None:
    """Raises ValueError unless there is a seed just when there is dropout."""
    if dropout_rate > 0 and dropout_seed is None:
        raise ValueError("dropout_rate > 0 needs a dropout_seed, an integer that differs each step")
    if dropout_rate == 0 and dropout_seed is not None:
        raise ValueError("dropout_seed is given, but dropout_rate is 0")


def _resolve_window(window: Window | None) -> tuple[int, int]:
    if window is None:
        return UNBOUNDED, UNBOUNDED
    if not isinstance(window, tuple) or len(window) != 2:
        raise TypeError(f"window must be a pair (left, right) or None, got {window!r}")
    left, right = (
        UNBOUNDED if side is None else _resolve_side(f"window's {name}", side)
        for name, side in zip(("left", "right"), window, strict=True)
    )
    return left, right


def _resolve_side(name: str, side: int) -> int:
    side = arguments.integer(name, side, or_else=" or None")
    if side < 0:
        raise ValueError(f"{name} must be 0 or more, or None for no limit, got {side}")
    # The native code takes 64 bits, and no sequence is as long.
    return min(side, 2**62)


def _resolve_softcap(softcap: float | None) -> float:
    if softcap is None:
        return 0.0
    softcap = arguments.real("softcap", softcap, or_else=" or None")
    if softcap <= 0:
        raise ValueError(f"softcap must be positive and finite, or None, got {softcap}")
    return softcap


def _resolve_dropout(rate: float) -> float:
    rate = arguments.real("dropout_rate", rate)
    if not 0 <= rate < 1:
        raise ValueError(f"dropout_rate must be in [0, 1), got {rate}")
    return rate


def _resolve_rotary_dim(rope: Rope | RopeTables | None, sizes: Sizes) -> int:
    if rope is None:
        return 0
    if isinstance(rope, Rope):
        rotary_dim = sizes.head_dim
        if rope.rotary_dim is not None:
            rotary_dim = arguments.integer("rope's rotary_dim", rope.rotary_dim, or_else=" or None")
        rope_numbers(rope)
    elif isinstance(rope, RopeTables):
        for name, table in (("cos", rope.cos), ("sin", rope.sin)):
            if not hasattr(table, "shape"):
                raise TypeError(f"rope's {name} must be an array, got {arguments.given(table)}")
            arguments.real_dtype(f"rope's {name}", str(table.dtype))
        if len(rope.cos.shape) != 2 or tuple(rope.cos.shape) != tuple(rope.sin.shape):
            raise ValueError(
                "rope's cos and sin must both be [positions, rotary_dim / 2], got shapes "
                f"{tuple(rope.cos.shape)} and {tuple(rope.sin.shape)}"
            )
        if rope.cos.shape[0] < max(sizes.seq_q, sizes.seq_k):
            raise ValueError(
                f"rope's tables must have a row for each of {max(sizes.seq_q, sizes.seq_k)} "
                f"positions, got {rope.cos.shape[0]}"
            )
        rotary_dim = 2 * rope.cos.shape[1]
    else:
        raise TypeError(f"rope must be Rope, RopeTables or None, got {type(rope).__name__}")
    if rotary_dim % 2 or not 2 <= rotary_dim <= sizes.head_dim:
        raise ValueError(
            f"rope's rotary_dim must be even and from 2 to head_dim ({sizes.head_dim}), "
            f"got {rotary_dim}"
        )
    return rotary_dim


def select(device: str, dtype: str, head_dim: int) -> str:
    """Returns the backend for a problem; see `kernels.dispatch.select_backend`.

    Raises:
      UnsupportedKernelError: no backend serves it; `check_cuda` has to be asked too.
    """
    backend = select_backend("attention", SUPPORT, device=device, dtype=dtype)
    if backend == "triton" and head_dim > TRITON_MAX_HEAD_DIM:
        raise UnsupportedKernelError(
            f"attention's triton backend supports head_dim up to {TRITON_MAX_HEAD_DIM}, "
            f"got {head_dim}"
        )
    return backend


def explain(device: str, dtype: str, head_dim: int, native: str) -> str:
    """Returns a line for each backend: whether and why it serves a problem.

    Args:
      device: of the problem, as for `select`.
      dtype: of the problem.
      head_dim: of the problem.
      native: how the native code of the CPU would run, for its line.

    Raises:
      UnsupportedKernelError: no backend serves it.
    """
    backend = select(device, dtype, head_dim)
    text = explain_backends("attention", SUPPORT, backend, device=device, dtype=dtype)
    return text.replace("chosen", f"chosen, with {native}", 1) if backend == "cpu" else text


def check_cuda(sizes: Sizes, options: Options, extras: Extras) -> None:
    """Raises UnsupportedKernelError unless the "cuda" backend serves it: ServedByCuda of cuda.h."""
    asked = {
        f"head_dim {sizes.head_dim}": sizes.head_dim not in CUDA_HEAD_DIMS,
        "softcap": options.softcap > 0,
        "dropout": options.dropout_rate > 0,
        "rope": options.rotary_dim > 0,
        "segment_ids": extras.q_segments is not None,
        f"softmax_scale {options.softmax_scale}": options.softmax_scale <= 0,
        "an empty problem": min(sizes[:3]) == 0,
    }
    if refused := [name for name, is_asked in asked.items() if is_asked]:
        raise UnsupportedKernelError(
            "attention's cuda backend supports head_dim 64 and 128, windows and ALiBi, with a "
            f"positive softmax_scale; got {', '.join(refused)}"
        )


def head_padding(backend: str, head_dim: int) -> int:
    """Returns how many zeros the backend needs at the end of each head; they change no result."""
    return -head_dim % TRITON_HEAD_DIM_MULTIPLE if backend == "triton" else 0


def rotates_first(direction: str, sizes: Sizes, options: Options) -> bool:
    """Whether RoPE on CUDA is a pass of its own in this direction, "forward" or "backward"."""
    if direction == "forward" and sizes.seq_q < ROTATE_FIRST_QUERIES:
        return False
    return options.rotary_dim > 0
