"""What attention accepts, the same for every backend and both frameworks.

Shape letters: B batch, Sq and Sk sequence lengths, H query heads, G key heads, D head dimension.
"""

import math
import os
from typing import NamedTuple

from kernels.dispatch import Support, UnsupportedKernelError, select_backend

# Limits of the Triton kernels: a program holds a whole head in registers, and reads it in vectors
# of 16 bytes.
TRITON_MAX_HEAD_DIM = 128
TRITON_HEAD_DIM_MULTIPLE = 8

# The devices and dtypes of each backend.
SUPPORT: Support = {
    "cpu": {"cpu": frozenset({"float32", "bfloat16", "float64"})},
    "triton": {"cuda": frozenset({"float16", "bfloat16", "float32"})},
    "reference": {"cpu": frozenset({"float16", "bfloat16", "float32", "float64"})},
}
if os.environ.get("TRITON_INTERPRET") == "1":
    # Triton's interpreter, for tests. Of bfloat16 it multiplies the bits instead of the values.
    SUPPORT = {**SUPPORT, "triton": {"cpu": frozenset({"float16", "float32"})}}


class Sizes(NamedTuple):
    """The sizes of one attention problem, in the order in which the native code takes them."""

    batch: int
    seq_q: int
    seq_k: int
    num_heads: int
    num_kv_heads: int
    head_dim: int


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
    if isinstance(softmax_scale, bool) or not isinstance(softmax_scale, (int, float)):
        raise TypeError(
            f"softmax_scale must be a Python number or None, got {type(softmax_scale).__name__}"
        )
    if not math.isfinite(softmax_scale):
        raise ValueError(f"softmax_scale must be finite, got {softmax_scale}")
    return float(softmax_scale)


def select(device: str, dtype: str, head_dim: int) -> str:
    """Returns the backend for a problem; see `kernels.dispatch.select_backend`.

    Raises:
      UnsupportedKernelError: no backend serves it.
    """
    backend = select_backend("attention", SUPPORT, device=device, dtype=dtype)
    if backend == "triton" and head_dim > TRITON_MAX_HEAD_DIM:
        raise UnsupportedKernelError(
            f"attention's triton backend supports head_dim up to {TRITON_MAX_HEAD_DIM}, "
            f"got {head_dim}"
        )
    return backend


def head_padding(backend: str, head_dim: int) -> int:
    """Returns how many zeros the backend needs at the end of each head; they change no result."""
    return -head_dim % TRITON_HEAD_DIM_MULTIPLE if backend == "triton" else 0
