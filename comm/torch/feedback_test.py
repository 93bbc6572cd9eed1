"""Error feedback: what is below a step is sent in time; what is not finite does not stay."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from comm.compression import Compression
from comm.testing import ranks, simulation
from comm.torch import collectives
from comm.torch.feedback import Feedback
from kernels.quantize.contract import codec

Floats = NDArray[np.float32]

_BLOCK_SIZE = 64
_COMPRESSION = Compression(codec(block_size=_BLOCK_SIZE))
_STEPS = 200


def _constant_gradients(rank: int, world_size: int, with_feedback: bool) -> NDArray[np.float64]:
    """The sum of the results of many steps with the same gradient, most of it below a step."""
    gradient = _small_among_large(rank)
    feedback = Feedback() if with_feedback else None
    total = np.zeros(gradient.size)
    for step in range(_STEPS):
        x = torch.from_numpy(gradient.copy())
        collectives.all_reduce(x, Compression(), feedback=feedback, step=step)
        total += x.numpy()
    return total / _STEPS


def _small_among_large(rank: int) -> Floats:
    gradient = np.random.default_rng(rank).uniform(-1e-3, 1e-3, 512).astype(np.float32)
    gradient[::256] = 1.0
    return gradient


@pytest.mark.parametrize("with_feedback", [True, False])
def test_error_feedback_sends_in_time_what_is_too_small(with_feedback: bool) -> None:
    mean = ranks.run(_constant_gradients, 2, with_feedback)[0]
    exact = np.mean([_small_among_large(rank).astype(np.float64) for rank in range(2)], axis=0)
    # What is pending in the end is at most half a step of each quantization, 1 / 127 a step.
    pending = (1 / 127) / _STEPS * 1.01
    small = np.arange(512) % 256 != 0
    if with_feedback:
        assert np.abs(mean - exact).max() <= pending
    else:
        assert not mean[small].any()  # all of it is lost, at every step
        assert np.abs(exact[small]).max() > 10 * pending


def _not_finite(rank: int, world_size: int) -> Floats:
    feedback = Feedback()
    collectives.all_reduce(
        torch.from_numpy(simulation.gradient(rank, 0, 1000)), _COMPRESSION, feedback=feedback
    )
    assert feedback.local is not None
    before = feedback.local.values.clone()
    x = torch.from_numpy(simulation.gradient(rank, 1, 1000))
    if rank == 1:
        x[70], x[800] = torch.nan, torch.inf
        collectives.all_reduce(x, _COMPRESSION, feedback=feedback)
        for start in (64, 768):
            kept = feedback.local.values[start : start + 64]
            assert torch.equal(kept, before[start : start + 64])
    else:
        collectives.all_reduce(x, _COMPRESSION, feedback=feedback)
    assert feedback.local.values.isfinite().all()
    assert all(span.values.isfinite().all() for span in feedback.owned)
    result: Floats = x.numpy()
    return result


def test_what_is_not_finite_makes_its_blocks_nan_everywhere_and_stays_out_of_residuals() -> None:
    for x in ranks.run(_not_finite, 3):
        bad = np.flatnonzero(np.isnan(x))
        assert set(bad // _BLOCK_SIZE) == {1, 12}
        assert bad.size == 2 * _BLOCK_SIZE


def test_what_is_held_is_that_of_the_values_and_not_of_what_lies_beyond() -> None:
    feedback = Feedback()
    assert feedback.held() == ()
    local, owned = feedback.prepare(10, (0, 10), [(0, 3, 4), (6, 9, 4)], torch.device("cpu"))
    local.copy_(torch.arange(10.0))
    owned[0].copy_(torch.tensor([10.0, 11, 12, 0]))
    owned[1].copy_(torch.tensor([16.0, 17, 18, 0]))
    held = [(span.start, span.values.tolist()) for span in feedback.held()]
    assert held == [(0, [*range(10)]), (0, [10, 11, 12]), (6, [16, 17, 18])]
    feedback.inherit(torch.arange(10.0), torch.arange(10.0, 20))
    held = [(span.start, span.values.tolist()) for span in feedback.held()]
    assert held == [(0, [*range(10)]), (0, [*range(10, 20)])]


def test_each_rank_takes_its_part_of_what_is_inherited() -> None:
    feedback = Feedback()
    feedback.inherit(torch.arange(10.0), torch.arange(10.0, 20))
    local, owned = feedback.prepare(10, (0, 10), [(8, 10, 4)], torch.device("cpu"))
    assert torch.equal(local, torch.arange(10.0))
    assert owned[0].tolist() == [18, 19, 0, 0]
    with pytest.raises(ValueError, match="of 10 values and was given a vector of 11"):
        feedback.prepare(11, (0, 11), [(8, 10, 4)], torch.device("cpu"))
    feedback.inherit(torch.arange(10.0), None)
    with pytest.raises(ValueError, match="are of 10 values and the vector has 11"):
        feedback.prepare(11, (0, 11), [], torch.device("cpu"))
