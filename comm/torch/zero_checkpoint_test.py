"""Tests that residuals travel with DeepSpeed's checkpoints."""

import functools
import hashlib
import shutil
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import deepspeed
import numpy as np
import pytest
import torch

from comm.compression import Compression
from comm.testing import ranks, zero_engines
from comm.torch.zero import ZeroCompression
from kernels.quantize.contract import codec

_STOCHASTIC = Compression(codec("int8", rounding="stochastic"), bucket_bytes=64 * 1024)
_BF16: dict[str, Any] = {"bf16": {"enabled": True}}
_TWO_MICRO_BATCHES: dict[str, Any] = {"gradient_accumulation_steps": 2}

# name: (stage, config, compression)
CASES: dict[str, tuple[int, dict[str, Any], Compression]] = {
    "stage 0": (0, {}, zero_engines.COMPRESSION),
    "stage 0, bf16": (0, _BF16, zero_engines.COMPRESSION),
    "stage 1": (1, _TWO_MICRO_BATCHES, zero_engines.COMPRESSION),
    "stage 2": (2, _TWO_MICRO_BATCHES, zero_engines.COMPRESSION),
    "stage 2, bf16": (2, _BF16, zero_engines.COMPRESSION),
    "stage 2, stochastic": (2, _TWO_MICRO_BATCHES, _STOCHASTIC),
    "stage 3": (3, {}, zero_engines.COMPRESSION),
}


class Resumed(NamedTuple):
    """Digests of the weights after six steps, and what was warned of and found on the way."""

    whole: str
    resumed: str
    without_residuals: str
    warnings: list[str]
    pending_when_fresh: int


def _start(
    rank: int, world_size: int, case: str
) -> tuple[deepspeed.DeepSpeedEngine, ZeroCompression]:
    stage, config, compression = CASES[case]
    model = zero_engines.classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    engine = zero_engines.start(model, optimizer, rank, world_size, stage, config)
    return engine, zero_engines.compressed(engine, compression)


def _digest(engine: deepspeed.DeepSpeedEngine) -> str:
    return hashlib.sha256(b"".join(w.tobytes() for w in zero_engines.weights(engine))).hexdigest()


def _resume(rank: int, world_size: int, case: str, folder: str) -> Resumed:
    engine, _ = _start(rank, world_size, case)
    zero_engines.train(engine, rank, 3)
    engine.save_checkpoint(folder)
    zero_engines.train(engine, rank, 3, first_step=3)
    whole = _digest(engine)

    engine, _ = _start(rank, world_size, case)
    engine.load_checkpoint(folder)
    zero_engines.train(engine, rank, 3, first_step=3)
    resumed = _digest(engine)

    engine, handle = _start(rank, world_size, case)
    engine.load_checkpoint(folder, load_optimizer_states=False)
    pending_when_fresh = len(handle.residuals.feedbacks or {})

    torch.distributed.barrier()
    if rank == 0:
        shutil.rmtree(Path(folder) / "global_step3" / "gradient_compression")
    torch.distributed.barrier()
    engine, _ = _start(rank, world_size, case)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        engine.load_checkpoint(folder)
    zero_engines.train(engine, rank, 3, first_step=3)
    messages = [str(warning.message) for warning in caught]
    return Resumed(whole, resumed, _digest(engine), messages, pending_when_fresh)


def _resume_all(rank: int, world_size: int, folder: str) -> dict[str, Resumed]:
    return {case: _resume(rank, world_size, case, f"{folder}/{case}") for case in CASES}


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Resumed]]:
    zero_engines.preload()
    folder = str(tmp_path_factory.mktemp("checkpoints"))
    return ranks.run(_resume_all, 2, folder)


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_ends_with_the_same_bits(
    resumed: list[dict[str, Resumed]], case: str
) -> None:
    for of_rank in resumed:
        assert of_rank[case].resumed == of_rank[case].whole


@pytest.mark.parametrize("case", CASES)
def test_without_residuals_it_says_so_and_ends_otherwise(
    resumed: list[dict[str, Resumed]], case: str
) -> None:
    for of_rank in resumed:
        assert any("without gradient compression" in text for text in of_rank[case].warnings)
        assert of_rank[case].without_residuals != of_rank[case].whole


@pytest.mark.parametrize("case", CASES)
def test_without_optimizer_state_there_are_no_residuals(
    resumed: list[dict[str, Resumed]], case: str
) -> None:
    assert all(of_rank[case].pending_when_fresh == 0 for of_rank in resumed)


Pending = dict[str, tuple[np.ndarray, np.ndarray]]


def _save(engine: deepspeed.DeepSpeedEngine, handle: ZeroCompression, folder: str) -> Pending:
    """Returns what is pending on this rank, by parameter: all of its own, and what it owns."""
    engine.save_checkpoint(folder)
    pending = {}
    for name, feedback in (handle.residuals.feedbacks or {}).items():
        owned = np.zeros(feedback.size, np.float32)
        for span in feedback.owned:
            owned[span.start : span.stop] = span.values.numpy()
        pending[name] = (feedback.local.values.numpy().copy(), owned)
    return pending


def _train_and_save(
    rank: int, world_size: int, loaded: str | None, saved: str
) -> tuple[Pending, Pending, list[float]]:
    """Returns what was inherited, what is pending three steps later, and the losses between."""
    engine, handle = _start(rank, world_size, "stage 0")
    inherited: Pending = {}
    if loaded is not None:
        engine.load_checkpoint(loaded)
        inherited = {
            name: tuple(whole.numpy().copy() for whole in feedback.inherited)
            for name, feedback in (handle.residuals.feedbacks or {}).items()
        }
    losses = zero_engines.train(engine, rank, 3)
    return inherited, _save(engine, handle, saved), losses


def test_another_number_of_ranks_inherits_what_is_pending(tmp_path: Path) -> None:
    """Under stage 0, since DeepSpeed refuses it under the others. More ranks, and fewer again."""
    zero_engines.preload()
    folder = None
    pending: list[Pending] = []
    for world_size in (2, 4, 2):
        before, loaded, folder = pending, folder, str(tmp_path / f"{len(pending)} to {world_size}")
        of_ranks = ranks.run(_train_and_save, world_size, loaded, folder)
        pending = [of_rank[1] for of_rank in of_ranks]
        assert pending[0]
        for inherited, _, losses in of_ranks:
            assert np.isfinite(losses).all()
            _check_inherited(inherited, before)


def _check_inherited(inherited: Pending, pending: list[Pending]) -> None:
    """Checks that nothing was lost: the mean of what ranks held, and all that they owned."""
    assert inherited.keys() == (pending[0].keys() if pending else set())
    for name, (local, owned) in inherited.items():
        mean = functools.reduce(np.add, [of_rank[name][0] for of_rank in pending]) / len(pending)
        whole = functools.reduce(np.add, [of_rank[name][1] for of_rank in pending])
        assert np.abs(mean).max() > 0 and np.abs(whole).max() > 0
        np.testing.assert_allclose(local, mean, rtol=1e-6, atol=1e-12)
        np.testing.assert_array_equal(owned, whole)
