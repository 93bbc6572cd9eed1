"""Which attention problems a run measures, and how patiently."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.attention.cases import DTYPES, FEATURES, PLAIN, Case, make_case


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
