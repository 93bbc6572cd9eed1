"""Residuals on disk: resumed is uninterrupted, nothing pending is lost, half a save is refused."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from comm.compression import Compression
from comm.testing import ranks
from comm.torch import checkpoint, collectives
from comm.torch.checkpoint import CheckpointError
from comm.torch.errors import CommunicationError
from comm.torch.feedback import Feedback
from kernels.quantize.contract import codec

_SIZE = 5000
_STEPS = 4
_NAME = "blocks/0/weight"

# Of float32 sums of a dozen values about 1.
_SUM_ABSOLUTE = 1e-5


def _compression(ranks_per_node: int | None = None) -> Compression:
    # Float8 of 2 bits and large blocks, so that much is pending.
    return Compression(
        codec("float8_e5m2", block_size=256), bucket_bytes=4 * 1024, ranks_per_node=ranks_per_node
    )


def _gradient(rank: int, step: int) -> torch.Tensor:
    random = np.random.default_rng([rank, step])
    return torch.from_numpy(random.standard_normal(_SIZE).astype(np.float32))


def _steps(
    rank: int,
    world_size: int,
    load_from: Path | None,
    save_to: Path | None,
    num_steps: int,
    ranks_per_node: int | None = None,
) -> tuple[list[NDArray[np.float32]], NDArray[np.float32], dict[int, NDArray[np.float32]]]:
    """Reduces a gradient at each step; returns results, local residual and owned ones by start."""
    compression, feedback, first = _compression(ranks_per_node), Feedback(), 0
    if load_from is not None:
        saved = checkpoint.load(load_from, ranks_per_node=ranks_per_node)
        feedback, first = saved.feedbacks[_NAME], saved.step
    results = []
    for step in range(first, first + num_steps):
        x = _gradient(rank, step)
        collectives.all_reduce(x, compression, feedback=feedback, step=step)
        results.append(x.numpy())
    if save_to is not None:
        checkpoint.save(
            save_to, {_NAME: feedback}, ranks_per_node=ranks_per_node, step=first + num_steps
        )
    local, *owned = feedback.held()
    return results, local.values.numpy(), {span.start: span.values.numpy() for span in owned}


@pytest.mark.parametrize(
    ("world_size", "ranks_per_node"), [(2, None), (3, None), (4, None), (4, 2)]
)
def test_resumed_is_uninterrupted_bit_for_bit(
    world_size: int, ranks_per_node: int | None, tmp_path: Path
) -> None:
    ranks.run(_steps, world_size, None, tmp_path, _STEPS, ranks_per_node)
    resumed = ranks.run(_steps, world_size, tmp_path, None, _STEPS, ranks_per_node)
    straight = ranks.run(_steps, world_size, None, None, 2 * _STEPS, ranks_per_node)
    for (results, local, owned), (want, want_local, want_owned) in zip(
        resumed, straight, strict=True
    ):
        np.testing.assert_array_equal(results, want[_STEPS:])
        np.testing.assert_array_equal(local, want_local)
        assert owned.keys() == want_owned.keys()
        for start in owned:
            np.testing.assert_array_equal(owned[start], want_owned[start])


@pytest.mark.parametrize("nodes", [(None, None, None), (2, None, 2), (None, 2, None)])
def test_nothing_pending_is_lost_when_the_number_of_ranks_changes(
    nodes: tuple[int | None, ...], tmp_path: Path
) -> None:
    applied, exact = np.zeros(_SIZE), np.zeros(_SIZE)
    load_from = None
    for part, world_size in enumerate((4, 2, 4)):
        save_to = tmp_path / str(part)
        by_rank = ranks.run(_steps, world_size, load_from, save_to, _STEPS, nodes[part])
        applied += np.sum(by_rank[0][0], axis=0, dtype=np.float64)
        for step in range(part * _STEPS, (part + 1) * _STEPS):
            gradients = [_gradient(rank, step).numpy() for rank in range(world_size)]
            exact += np.mean(gradients, axis=0, dtype=np.float64)
        load_from = save_to
    assert np.abs(applied - exact).max() > 1000 * _SUM_ABSOLUTE  # there is something to lose
    pending = np.zeros(_SIZE)
    for whole in ranks.run(_whole, 4, tmp_path / "2", nodes[-1]):
        pending += whole / 4
    np.testing.assert_allclose(applied + pending, exact, rtol=0, atol=_SUM_ABSOLUTE)


def _whole(
    rank: int, world_size: int, directory: Path, ranks_per_node: int | None
) -> NDArray[np.float32]:
    """What is pending for this rank's share of the mean: its local residual and the owned one."""
    saved = checkpoint.load(directory, ranks_per_node=ranks_per_node)
    local, owned = saved.feedbacks[_NAME].inherited or (torch.zeros(0), None)
    assert owned is not None
    return (local + owned).numpy()


def test_what_was_loaded_and_not_used_is_saved_as_it_was(tmp_path: Path) -> None:
    ranks.run(_steps, 2, None, tmp_path / "a", _STEPS)
    ranks.run(_steps, 2, tmp_path / "a", tmp_path / "b", 0)
    for first, second in zip(
        ranks.run(_whole, 2, tmp_path / "a", None),
        ranks.run(_whole, 2, tmp_path / "b", None),
        strict=True,
    ):
        np.testing.assert_array_equal(first, second)


def _load(rank: int, world_size: int, directory: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        checkpoint.load(directory)
    return str(error.value)


def test_refuses_what_is_not_complete(tmp_path: Path) -> None:
    good = tmp_path / "good"
    ranks.run(_steps, 2, None, good, 1)
    ranks.run(_steps, 2, None, tmp_path / "other", 1)
    first, second = "rank-00000-of-00002.safetensors", "rank-00001-of-00002.safetensors"

    def refusal(name: str) -> str:
        return str(ranks.run(_load, 1, tmp_path / name)[0])

    def copy(name: str) -> Path:
        return Path(shutil.copytree(good, tmp_path / name))

    assert "has no manifest.json" in refusal("absent")
    (copy("missing") / second).unlink()
    assert second in refusal("missing")
    cut = copy("cut") / first
    cut.write_bytes(cut.read_bytes()[:-1000])
    assert first in refusal("cut")
    shutil.copy(tmp_path / "other" / first, copy("mixed") / first)
    assert "is of another save" in refusal("mixed")
    (copy("garbled") / "manifest.json").write_text("{")
    assert "is not JSON" in refusal("garbled")
    (copy("foreign") / "manifest.json").write_text("{}")
    assert "is not of residuals" in refusal("foreign")


def _die_while_saving(rank: int, world_size: int, directory: Path) -> None:
    feedback = Feedback()
    collectives.all_reduce(_gradient(rank, 0), _compression(), feedback=feedback)
    checkpoint.save(directory, {_NAME: feedback})
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    with pytest.raises(CommunicationError):
        checkpoint.save(directory, {_NAME: feedback})


def test_a_save_during_which_a_rank_dies_is_refused(tmp_path: Path) -> None:
    ended = ranks.outcomes(_die_while_saving, 2, tmp_path, group_timeout_s=10.0)
    assert ended[0].error == ""
    assert "saving did not end" in ranks.run(_load, 1, tmp_path)[0]


def _rescale(rank: int, world_size: int) -> None:
    scale = 2.0**10
    plain, scaled = Feedback(), Feedback()
    for step in range(4):
        x = _gradient(rank, step)
        if step == 2:
            scaled.rescale(scale)
        y = x * scale if step >= 2 else x.clone()
        collectives.all_reduce(x, _compression(), feedback=plain, step=step)
        collectives.all_reduce(y, _compression(), feedback=scaled, step=step)
    assert torch.equal(y, x * scale)


def test_residuals_follow_the_scale_of_the_loss_exactly() -> None:
    ranks.run(_rescale, 2)


def _rescale_loaded(rank: int, world_size: int, directory: Path) -> None:
    before = checkpoint.load(directory).feedbacks[_NAME]
    feedback = checkpoint.load(directory).feedbacks[_NAME]
    feedback.rescale(0.5)
    assert len(feedback.held()) == 2
    for span, old in zip(feedback.held(), before.held(), strict=True):
        assert torch.equal(span.values, old.values / 2)


def test_residuals_that_were_loaded_follow_it_too(tmp_path: Path) -> None:
    ranks.run(_steps, 2, None, tmp_path, 1)
    ranks.run(_rescale_loaded, 2, tmp_path)
