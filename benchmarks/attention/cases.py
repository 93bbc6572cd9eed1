"""The attention problems that are timed: sizes, features, inputs, operations, and presets of them.

Shape letters: B batch, Sq and Sk sequence lengths, H query heads, G key heads, D head dimension.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.attention.contract import Sizes

# The tables of the record.
CEILING_TABLE = "ceiling"
MEMORY_TABLE = "memory"
TIME_TABLE = "time"

PLAIN = "plain"

# Causal with this many keys to the left of each query.
WINDOW_LEFT = 255
# Documents of one length that a packed sequence holds, each blind to the others.
DOCUMENTS = 4

DIRECTIONS = ("forward", "backward", "both")
BACKWARD_FORWARD_RATIO = 2.5

DTYPES = ("float32", "bfloat16", "float16")

# The tokens of a batch on CUDA, and the channels of all heads, as in FlashAttention's benchmarks.
_CUDA_TOKENS = 16384
_CUDA_CHANNELS = 2048
_CPU_HEADS = 8
_DECODE_BATCH = 8
_GROUP = 4


class Case(NamedTuple):
    """One problem.

    Attributes:
      feature: what it has besides sizes, dtype and mask; a key of `FEATURES`.
      dtype: numpy's name.
      causal: whether a query sees no later key.
      sizes: of the arrays.
    """

    feature: str
    dtype: str
    causal: bool
    sizes: Sizes

    def describe(self) -> dict[str, str | bool | int | float]:
        """The case as one flat mapping, for a record."""
        own: dict[str, str | bool | int | float] = {
            "feature": self.feature,
            "dtype": self.dtype,
            "causal": self.causal,
        }
        return own | self.sizes._asdict()


class Inputs(NamedTuple):
    """The arrays of a case, float32 as both frameworks get them.

    Attributes:
      q, k, v: [B, Sq, H, D], [B, Sk, G, D], [B, Sk, G, D].
      grad_out: as q.
      alibi_slopes: [H].
      segment_ids: [B, Sk], int32; Sq and Sk are the same where it is used.
    """

    q: NDArray[np.float32]
    k: NDArray[np.float32]
    v: NDArray[np.float32]
    grad_out: NDArray[np.float32]
    alibi_slopes: NDArray[np.float32]
    segment_ids: NDArray[np.int32]


def make_inputs(case: Case) -> Inputs:
    """Draws the inputs of a case, always the same."""
    sizes = case.sizes
    rng = np.random.default_rng(0)
    query_shape = (sizes.batch, sizes.seq_q, sizes.num_heads, sizes.head_dim)
    key_shape = (sizes.batch, sizes.seq_k, sizes.num_kv_heads, sizes.head_dim)
    q, k, v, grad_out = (
        rng.standard_normal(shape, dtype=np.float32)
        for shape in (query_shape, key_shape, key_shape, query_shape)
    )
    # The paper's slopes, "Train Short, Test Long", section 3.
    slopes = 2.0 ** (-8.0 * np.arange(1, sizes.num_heads + 1) / sizes.num_heads)
    segment_ids = np.tile(make_segments(sizes.seq_k).astype(np.int32), (sizes.batch, 1))
    return Inputs(q, k, v, grad_out, slopes.astype(np.float32), segment_ids)


def visible(case: Case) -> NDArray[np.bool_]:
    """Which key each query sees, [Sq, Sk]: the mask that a peer without the feature is given."""
    sizes = case.sizes
    distance = query_positions(case)[:, None] - np.arange(sizes.seq_k)
    seen = np.ones((sizes.seq_q, sizes.seq_k), dtype=np.bool_)
    if case.causal:
        seen &= distance >= 0
    if case.feature == "window":
        seen &= distance <= WINDOW_LEFT
    if case.feature == "segments":
        segments = make_segments(sizes.seq_k)
        seen &= segments[:, None] == segments
    return seen


def query_positions(case: Case) -> NDArray[np.int64]:
    """The last query is as far as the last key."""
    return np.arange(case.sizes.seq_q) + case.sizes.seq_k - case.sizes.seq_q


def make_segments(seq_len: int) -> NDArray[np.int64]:
    """The document of each position, [S]."""
    return np.arange(seq_len) * DOCUMENTS // seq_len


def operations(case: Case, direction: str) -> float:
    """Floating-point operations as the field counts them.

    4 B H D for each pair of a query and a key that it sees, forward; 2.5 times as many backward.
    A plain causal problem counts half of all pairs, as FlashAttention's benchmarks do.
    """
    sizes = case.sizes
    if case.feature in ("window", "segments"):
        pairs = float(np.count_nonzero(visible(case)))
    else:
        pairs = sizes.seq_q * sizes.seq_k * (0.5 if case.causal else 1.0)
    forward = 4.0 * sizes.batch * sizes.num_heads * sizes.head_dim * pairs
    factors = {
        "forward": 1.0,
        "backward": BACKWARD_FORWARD_RATIO,
        "both": 1.0 + BACKWARD_FORWARD_RATIO,
    }
    return forward * factors[direction]


def directions(case: Case) -> tuple[str, ...]:
    """The passes that are timed: generating a token has no backward pass."""
    return ("forward",) if case.feature == "decode" else DIRECTIONS


def make_case(
    device: str, feature: str, dtype: str, causal: bool, length: int, head_dim: int
) -> Case:
    """Returns the case of a length: on the CPU of one sequence, on CUDA of as many as fill it."""
    num_heads = _CPU_HEADS if device == "cpu" else max(1, _CUDA_CHANNELS // head_dim)
    grouped = feature in ("gqa", "decode")
    num_kv_heads = num_heads // _GROUP if grouped else num_heads
    if feature == "decode":
        batch, seq_q = _DECODE_BATCH, 1
    else:
        batch, seq_q = 1 if device == "cpu" else max(1, _CUDA_TOKENS // length), length
    sizes = Sizes(batch, seq_q, length, num_heads, num_kv_heads, head_dim)
    return Case(feature, dtype, causal, sizes)


# Each feature, with the masks that it is timed with: causal or not.
FEATURES: dict[str, tuple[bool, ...]] = {
    PLAIN: (False, True),
    "alibi": (True,),
    "window": (True,),
    "gqa": (True,),
    "segments": (True,),
    "rope": (True,),
    "decode": (False,),
}


class Preset(NamedTuple):
    """Which cases are measured and how long.

    Attributes:
      features: of the cases; those of `PLAIN` have every length and head_dim.
      dtypes: of all cases.
      lengths: of the plain cases.
      head_dims: of the plain cases; the others have the first.
      feature_lengths: of the other cases.
      memory_lengths: of the cases whose memory is measured.
      budget_s: time for one pass of one case, all sides together; slow sides exceed it.
      patient: measure peers even where they are far behind.
    """

    features: Sequence[str]
    dtypes: Sequence[str]
    lengths: Sequence[int]
    head_dims: Sequence[int]
    feature_lengths: Sequence[int]
    memory_lengths: Sequence[int]
    budget_s: float
    patient: bool


_LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)
_CUDA_LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)

QUICK = Preset(
    features=(PLAIN, "alibi", "window"),
    dtypes=DTYPES[:2],
    lengths=(128, 512, 1024),
    head_dims=(64,),
    feature_lengths=(1024,),
    memory_lengths=(1024,),
    budget_s=0.1,
    patient=False,
)
DEFAULT = Preset(
    features=tuple(FEATURES),
    dtypes=DTYPES[:2],
    lengths=_LENGTHS,
    head_dims=(64, 128),
    feature_lengths=(2048,),
    memory_lengths=(1024, 4096),
    budget_s=0.4,
    patient=False,
)
FULL = DEFAULT._replace(
    dtypes=DTYPES,
    feature_lengths=_LENGTHS,
    memory_lengths=(1024, 2048, 4096, 8192),
    budget_s=2.0,
    patient=True,
)


def on_device(preset: Preset, device: str) -> Preset:
    """Returns the preset with the lengths that are usual on a device."""
    if device == "cpu" or preset.lengths != _LENGTHS:
        return preset
    return preset._replace(lengths=_CUDA_LENGTHS, head_dims=(128, 64))


def time_cases(device: str, preset: Preset) -> Iterator[Case]:
    """Yields the cases to time, longer ones of a kind after shorter ones."""
    for feature in preset.features:
        plain = feature == PLAIN
        for dtype in preset.dtypes:
            for head_dim in preset.head_dims if plain else preset.head_dims[:1]:
                for causal in FEATURES[feature]:
                    for length in sorted(preset.lengths if plain else preset.feature_lengths):
                        yield make_case(device, feature, dtype, causal, length, head_dim)


def memory_cases(device: str, preset: Preset) -> Iterator[Case]:
    """Yields the cases whose memory to measure."""
    for dtype in preset.dtypes:
        for length in sorted(preset.memory_lengths):
            yield make_case(device, PLAIN, dtype, False, length, preset.head_dims[0])
