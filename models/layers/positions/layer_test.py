"""Learned positions are those of an example's own tokens; slopes and angles are the papers'."""

import numpy as np
import pytest

from models.layers.positions.alibi import geometric_slopes
from models.layers.positions.config import LearnedPositionsConfig, RotaryConfig
from models.layers.positions.flax_layer import LearnedPositions as FlaxPositions
from models.layers.positions.rotary import angles, rotary_dim
from models.layers.positions.torch_layer import LearnedPositions as TorchPositions
from models.layers.positions.weights import learned_positions
from models.testing.parity import assert_same, of_flax, of_torch, stirred

WIDTH, SEQ_LEN = 4, 6
X = np.random.default_rng(0).normal(size=(3, 5, WIDTH)).astype(np.float32)


@pytest.mark.parametrize(
    ("segment_ids", "positions"),
    [
        (None, [[0, 1, 2, 3, 4]] * 3),
        (
            [[0, 0, 0, 0, 0], [0, 0, -1, -1, -1], [-1, -1, -1, 0, 0]],
            [[0, 1, 2, 3, 4], [0, 1, 1, 1, 1], [0, 0, 0, 0, 1]],
        ),
    ],
)
def test_each_token_has_the_vector_of_its_position(
    segment_ids: list[list[int]] | None, positions: list[list[int]]
) -> None:
    weights = stirred(
        learned_positions(LearnedPositionsConfig(enabled=True), SEQ_LEN, WIDTH), "float32"
    )
    context = {} if segment_ids is None else {"segment_ids": np.array(segment_ids, np.int32)}
    ours = of_flax(lambda: FlaxPositions(SEQ_LEN, WIDTH, name="a"), weights, X, context, jit=False)
    other = of_torch(lambda: TorchPositions(SEQ_LEN, WIDTH, name="a"), weights, X, context)
    assert_same(ours, other, values=1e-6, gradients=1e-6)
    np.testing.assert_allclose(ours.output, X + weights["weight"][positions], rtol=0, atol=1e-6)


def test_slopes_are_the_authors() -> None:
    np.testing.assert_array_equal(geometric_slopes(8), 2.0 ** -np.arange(1, 9))
    np.testing.assert_array_equal(geometric_slopes(1), [2.0**-8])
    # Of the published code, for 12 heads.
    between = [2.0**-0.5, 2.0**-1.5, 2.0**-2.5, 2.0**-3.5]
    np.testing.assert_allclose(geometric_slopes(12), [*geometric_slopes(8), *between], rtol=1e-15)


def test_angles_are_roformers_and_interpolation_divides_positions() -> None:
    config = RotaryConfig(enabled=True, fraction=0.5)
    assert rotary_dim(config, 8) == 4
    turns = angles(config, 8, 3)
    np.testing.assert_allclose(turns[2], [2.0, 2.0 * 10000**-0.5], rtol=1e-12)
    longer = angles(RotaryConfig(enabled=True, fraction=0.5, interpolation=2.0), 8, 5)
    np.testing.assert_allclose(longer[::2], turns, rtol=1e-12)


@pytest.mark.parametrize(
    ("fraction", "head_dim", "fits"),
    [
        (0.5, 6, "rotary.fraction 0.333333 or 0.666667 would fit"),
        (1.0, 5, "rotary.fraction 0.8 would fit"),
        (0.01, 64, "rotary.fraction 0.03125 or 0.0625 would fit"),
        (1.0, 1, "fewer or wider heads would fit"),
    ],
)
def test_what_is_no_number_of_pairs_is_refused_with_what_is(
    fraction: float, head_dim: int, fits: str
) -> None:
    with pytest.raises(ValueError, match=f"of heads of {head_dim} is .*; {fits}"):
        rotary_dim(RotaryConfig(enabled=True, fraction=fraction), head_dim)
    if "rotary" in fits:
        named = float(fits.split()[1])
        assert rotary_dim(RotaryConfig(enabled=True, fraction=named), head_dim) % 2 == 0
