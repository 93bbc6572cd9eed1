"""Rotary position embeddings: what `attention(..., rope=...)` takes.

Channel pair c of a head at position p turns by the angle p * base ** (-2 c / rotary_dim). Scores
then depend on distances only.

Reference: Su et al., "RoFormer", 2021, arXiv:2104.09864, equation 15.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Rope(NamedTuple):
    """Rotation by a geometric series of frequencies.

    Attributes:
      base: of the series; 10000 in RoFormer.
      offset: position of the first key or query, whichever is earlier.
      rotary_dim: the first channels of a head that turn, an even number; None: all of them.
      interleaved: channel pairs are (2c, 2c + 1), as in RoFormer and GPT-J; else
        (c, c + rotary_dim / 2), as in GPT-NeoX and Llama.
    """

    base: float = 10000.0
    offset: int = 0
    rotary_dim: int | None = None
    interleaved: bool = False


class RopeTables(NamedTuple):
    """Rotation by given angles.

    Attributes:
      cos: [positions, rotary_dim / 2], for at least max(seq_q, seq_k) positions; the first row is
        that of the first key or query, whichever is earlier. No gradient flows into it.
      sin: as cos.
      interleaved: as in `Rope`.
    """

    cos: Any
    sin: Any
    interleaved: bool = False


def rope_tables(
    positions: int, rotary_dim: int, *, base: float = 10000.0, offset: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns cos and sin [positions, rotary_dim / 2], float64, of positions from `offset` on."""
    frequencies = float(base) ** (-np.arange(0, rotary_dim, 2, dtype=np.float64) / rotary_dim)
    angles = np.arange(offset, offset + positions, dtype=np.float64)[:, None] * frequencies
    return np.cos(angles), np.sin(angles)
