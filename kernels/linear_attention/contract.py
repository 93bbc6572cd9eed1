"""What linear attention accepts, the same for every backend and both frameworks.

Shape letters: B batch, S sequence length, H query heads, G key heads, Dk key dimension, Dv value
dimension.
"""

import math
import os
from typing import Any, NamedTuple

from kernels import arguments
from kernels.dispatch import Support, UnsupportedKernelError, explain_backends, select_backend

# Tokens that all backends take at once: states are known between chunks only.
CHUNK = 64

# Limits of the Triton kernels: a program holds a whole head in registers, and reads it in vectors
# of 16 bytes.
TRITON_MAX_HEAD_DIM = 128
TRITON_HEAD_DIM_MULTIPLE = 8

# In the order of the native code's FeatureMap.
FEATURE_MAPS = ("identity", "elu", "relu")

# Keeps the quotient finite where no key is like the query.
DEFAULT_EPS = 1e-6

# The devices and dtypes of each backend.
SUPPORT: Support = {
    "cpu": {"cpu": frozenset({"float16", "bfloat16", "float32", "float64"})},
    "triton": {"cuda": frozenset({"float16", "bfloat16", "float32"})},
    "reference": {"cpu": frozenset({"float16", "bfloat16", "float32", "float64"})},
}
if os.environ.get("TRITON_INTERPRET") == "1":
    # Triton's interpreter, for tests. Of bfloat16 it multiplies the bits instead of the values.
    SUPPORT = {**SUPPORT, "triton": {"cpu": frozenset({"float16", "float32"})}}


class State(NamedTuple):
    """What the tokens so far leave to those after them, in the type of the sums.

    Attributes:
      kv: [B, H, Dk, Dv], the decayed sum of phi(k_j) v_j^T.
      k_sum: [B, H, Dk], the decayed sum of phi(k_j).
    """

    kv: Any
    k_sum: Any


class Sizes(NamedTuple):
    """The sizes of one problem, in the order in which the native code takes them."""

    batch: int
    seq_len: int
    num_heads: int
    num_kv_heads: int
    key_dim: int
    value_dim: int

    @property
    def num_chunks(self) -> int:
        """The number of chunks of the sequence; no tokens are one empty chunk."""
        return max(-(-self.seq_len // CHUNK), 1)


class Options(NamedTuple):
    """What else a problem is known by, in the order in which the native code takes it.

    Attributes:
      causal: token i sees the tokens up to itself; else all.
      feature_map: index in FEATURE_MAPS.
      normalize: divide by the sum of the weights, plus `eps`.
      eps: see `normalize`.
      scale: factor of the output unless `normalize`.
    """

    causal: bool = True
    feature_map: int = FEATURE_MAPS.index("elu")
    normalize: bool = True
    eps: float = DEFAULT_EPS
    scale: float = 1.0


class Extras(NamedTuple):
    """Arrays that a problem may have besides q, k and v; None where it has not.

    Attributes:
      decay: [B, H], in the type of the sums.
      initial_kv: [B, H, Dk, Dv], in the type of the sums; with initial_k_sum or not at all.
      initial_k_sum: [B, H, Dk], likewise.
    """

    decay: Any = None
    initial_kv: Any = None
    initial_k_sum: Any = None


def check_shapes(
    q_shape: tuple[int, ...], k_shape: tuple[int, ...], v_shape: tuple[int, ...]
) -> Sizes:
    """Returns the sizes of a problem.

    Args:
      q_shape: [B, S, H, Dk].
      k_shape: [B, S, G, Dk], with H a multiple of G.
      v_shape: [B, S, G, Dv].

    Raises:
      ValueError: the shapes are not those of a problem of linear attention.
    """
    for name, shape in (("q", q_shape), ("k", k_shape), ("v", v_shape)):
        if len(shape) != 4:
            raise ValueError(
                f"{name} must be [batch, seq_len, num_heads, head_dim], got shape {tuple(shape)}"
            )
    batch, seq_len, num_heads, key_dim = q_shape
    _, _, num_kv_heads, value_dim = v_shape
    if tuple(k_shape) != (batch, seq_len, k_shape[2], key_dim):
        raise ValueError(
            f"k must agree with q in batch ({batch}), seq_len ({seq_len}) and head_dim "
            f"({key_dim}), got shape {tuple(k_shape)}"
        )
    if tuple(v_shape[:3]) != tuple(k_shape[:3]):
        raise ValueError(
            f"v must agree with k in [batch, seq_len, num_kv_heads], {tuple(k_shape[:3])}, "
            f"got shape {tuple(v_shape)}"
        )
    if key_dim < 1 or value_dim < 1:
        raise ValueError(f"head_dim must be positive, got {key_dim} of q and {value_dim} of v")
    if num_heads < 1 or num_kv_heads < 1 or num_heads % num_kv_heads:
        raise ValueError(
            "num_heads must be a positive multiple of num_kv_heads, "
            f"got {num_heads} and {num_kv_heads}"
        )
    return Sizes(batch, seq_len, num_heads, num_kv_heads, key_dim, value_dim)


def check_step_shapes(*shapes: tuple[int, ...]) -> None:
    """Raises ValueError unless these are the shapes of a single step's q, k and v, in rank."""
    for name, shape in zip("qkv", shapes, strict=True):
        if len(shape) != 3:
            raise ValueError(
                f"{name} of one step must be [batch, num_heads, head_dim], got shape {tuple(shape)}"
            )


def check_dtypes(q_dtype: str, k_dtype: str, v_dtype: str) -> None:
    """Raises TypeError unless q, k and v have one dtype."""
    if not q_dtype == k_dtype == v_dtype:
        raise TypeError(f"q, k and v must have one dtype, got {q_dtype}, {k_dtype} and {v_dtype}")


def resolve_options(
    sizes: Sizes,
    *,
    causal: bool,
    feature_map: str,
    normalize: bool,
    eps: float,
    scale: float | None,
    has_decay: bool,
) -> Options:
    """Returns the options of a call of `linear_attention`, whose arguments these are.

    Raises:
      TypeError: an argument is not of its type.
      ValueError: an argument is out of its range, or two contradict each other.
    """
    if not isinstance(feature_map, str):
        raise TypeError(f"feature_map must be a str, got {arguments.given(feature_map)}")
    if feature_map not in FEATURE_MAPS:
        raise ValueError(f"feature_map must be one of {', '.join(FEATURE_MAPS)}, got {feature_map}")
    causal = arguments.boolean("causal", causal)
    normalize = arguments.boolean("normalize", normalize)
    eps = arguments.real("eps", eps)
    if eps < 0:
        raise ValueError(f"eps must be 0 or more, got {eps}")
    if has_decay and not causal:
        raise ValueError("decay needs causal=True: it is a distance from the present to the past")
    if normalize and scale is not None:
        raise ValueError("scale cancels out of a normalized output; pass normalize=False with it")
    if scale is None:
        scale = 1.0 if normalize else sizes.key_dim**-0.5
    else:
        scale = arguments.real("scale", scale, or_else=" or None")
    return Options(
        causal=causal,
        feature_map=FEATURE_MAPS.index(feature_map),
        normalize=normalize,
        eps=eps,
        scale=scale,
    )


def check_decay_shape(shape: tuple[int, ...], sizes: Sizes) -> None:
    """Raises ValueError unless a decay of this shape is one for each head, or row and head."""
    # Each compared by itself: torch.compile finds no symbolic sizes by `in`.
    is_per_head = tuple(shape) == (sizes.num_heads,)
    if not is_per_head and tuple(shape) != (sizes.batch, sizes.num_heads):
        raise ValueError(
            f"decay must be [num_heads], ({sizes.num_heads},), or [batch, num_heads], "
            f"{(sizes.batch, sizes.num_heads)}, got shape {tuple(shape)}"
        )


def check_state(state: Any, sizes: Sizes) -> None:
    """Raises TypeError or ValueError unless `state` is a State of the problem's shapes."""
    if not isinstance(state, State):
        raise TypeError(f"the state must be a State or None, got {type(state).__name__}")
    for name, array, want in zip(State._fields, state, state_shapes(sizes), strict=True):
        if not hasattr(array, "shape"):
            raise TypeError(f"the state's {name} must be an array, got {arguments.given(array)}")
        if tuple(array.shape) != want:
            raise ValueError(f"the state's {name} must be {want}, got shape {tuple(array.shape)}")


def state_shapes(sizes: Sizes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the shapes of a State's kv and k_sum."""
    heads = (sizes.batch, sizes.num_heads)
    return (*heads, sizes.key_dim, sizes.value_dim), (*heads, sizes.key_dim)


def sum_dtype(dtype: str) -> str:
    """Returns the dtype of the sums: float64 for float64, else float32."""
    return "float64" if dtype == "float64" else "float32"


def select(device: str, dtype: str, sizes: Sizes) -> str:
    """Returns the backend for a problem; see `kernels.dispatch.select_backend`.

    Raises:
      UnsupportedKernelError: no backend serves it.
    """
    backend = select_backend("linear_attention", SUPPORT, device=device, dtype=dtype)
    largest = max(sizes.key_dim, sizes.value_dim)
    if backend == "triton" and largest > TRITON_MAX_HEAD_DIM:
        raise UnsupportedKernelError(
            f"linear_attention's triton backend supports head_dim up to {TRITON_MAX_HEAD_DIM}, "
            f"got {largest}"
        )
    return backend


def explain(device: str, dtype: str, sizes: Sizes) -> str:
    """Returns a line for each backend: whether and why it serves a problem.

    Raises:
      UnsupportedKernelError: no backend serves it.
    """
    backend = select(device, dtype, sizes)
    return explain_backends("linear_attention", SUPPORT, backend, device=device, dtype=dtype)


def head_padding(backend: str, head_dim: int) -> int:
    """Returns how many channels the backend needs besides those of a head."""
    return -head_dim % TRITON_HEAD_DIM_MULTIPLE if backend == "triton" else 0


def padding_value(options: Options) -> float:
    """Returns what q and k are padded with: a value whose feature is 0."""
    return -math.inf if FEATURE_MAPS[options.feature_map] == "elu" else 0.0


def workspace_bytes(backend: str, dtype: str, sizes: Sizes, *, backward: bool) -> int:
    """Returns the size of the workspace that the caller provides.

    The C++ code for CPU takes none. The Triton kernels keep, in this order,

        states            [B, H, chunks, Dk, Dv], in the dtype of q: the kv before each chunk
        k_sums            [B, H, chunks, Dk] float32

    and in the backward pass, besides,

        grad_states, grad_k_sums: the gradients of the state after each chunk
        grad_sums         [B, H, chunks * CHUNK] float32: the gradient of each sum of weights
        decay_parts       [B, H, chunks, 2] float32, which add up to decay * grad_decay
    """
    if backend != "triton":
        return 0
    slots = sizes.batch * sizes.num_heads * sizes.num_chunks
    width = 4 if dtype == "float32" else 2
    states = sizes.key_dim * sizes.value_dim * width + sizes.key_dim * 4
    return slots * (2 * states + (CHUNK + 2) * 4 if backward else states)
