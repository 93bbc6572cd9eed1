"""The state of a DeepSpeed engine on disk, in DeepSpeed's own format.

DeepSpeed writes where it collects, on all ranks at once, and one that fails leaves the others
waiting. Here it gives what it would write to memory, and each rank writes its files later, on a
thread; whether all could, they tell each other by a process group of their own.
"""

import io
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.runtime.checkpoint_engine import CheckpointCommitInfo
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointEngine
from torch import distributed

from comm.torch import checkpoint
from comm.torch.feedback import Feedback
from comm.torch.zero import ZeroCompression
from comm.torch.zero_checkpoint import FOLDER, load_residuals
from optim.torch.optimizer import Optimizer
from train.backends.nvme.swapped import swapped_groups, write_swapped
from train.backends.torch_elastic import WrittenState, take_up

# DeepSpeed's name for one checkpoint of several.
_TAG = "deepspeed"


class EngineCheckpoints:
    """Saves and loads one engine; every rank has one.

    Args:
        engine: Whose state.
        optimizer: That it steps.
        names: Of the optimizer's parameters, group by group.
        compression: That its gradients go through, if any.
    """

    def __init__(
        self,
        engine: deepspeed.DeepSpeedEngine,
        optimizer: Optimizer,
        names: Sequence[str],
        compression: ZeroCompression | None,
    ):
        self._engine, self._optimizer, self._names = engine, optimizer, names
        self._compression = compression
        self._memory = engine.checkpoint_engine = _Memory()
        # Only the first rank would, of its own installation, and while the others wait.
        engine._copy_recovery_script = lambda folder: None
        self._is_swapping = bool(swapped_groups(engine))
        alone = distributed.get_world_size() == 1
        self._writers = None if alone else distributed.new_group(backend="gloo")

    def save(self, directory: Path, own: Mapping[str, Any]) -> Callable[[], None]:
        """Copies the engine's state; returns what writes the copy. Both are collective.

        Args:
            directory: A new one.
            own: What else is to be saved: this rank's under ZeRO's third stage, otherwise the same
                on every rank.
        """
        state = {**own, "sub_group_size": self._engine.zero_sub_group_size()}
        with _nothing_swapped(self._engine):
            deepspeed.DeepSpeedEngine.save_checkpoint(
                self._engine, str(directory), tag=_TAG, client_state=state, save_latest=False
            )
        failure = self._write_swapped(directory / _TAG)
        files, residuals = self._memory.taken(), self._residuals()
        folder, per_node = directory / _TAG / FOLDER, 1
        if self._compression is not None:
            per_node = self._compression.residuals.ranks_per_node or 1

        def write_own() -> None:
            if failure is not None:
                raise failure
            for path, content in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            if residuals is not None:
                checkpoint.write_own(folder, residuals, _TAG)

        def write_rest() -> None:
            if distributed.get_rank() == 0:
                if residuals is not None:
                    checkpoint.write_manifest(folder, residuals, _TAG, ranks_per_node=per_node)
                for script in ("zero_to_fp32.py", "zero_to_torch.py"):
                    shutil.copy(Path(deepspeed.__file__).parent / "utils" / script, directory)

        def write() -> None:
            self._together(write_own)
            self._together(write_rest)

        return write

    def load(self, directory: Path) -> tuple[dict[str, Any], WrittenState | None]:
        """Replaces the state of an engine that has not stepped.

        Returns:
            What else was saved; and, if other ranks or another stage of ZeRO wrote it, all of that,
            as what else there is of the first rank may then be a part that this one cannot use.
        """
        written = WrittenState(directory / _TAG, self._names)
        if written.is_as_of(self._engine) and not (self._is_swapping or written.was_swapped):
            path, own = self._engine.load_checkpoint(str(directory), tag=_TAG)
            if path is None:
                raise FileNotFoundError(f"DeepSpeed finds no checkpoint in {directory}")
            return own, None
        take_up(self._engine, self._optimizer, written)
        if self._compression is not None:
            residuals = self._compression.residuals
            load_residuals(directory / _TAG / "any", residuals, self._engine, fresh=False)
            if self._engine.zero_optimization():  # whose ranks quantize no sums
                residuals.fold_owned()
        return dict(written.first), written

    def _write_swapped(self, folder: Path) -> Exception | None:
        """Writes at once what is in files, as memory may not hold a copy; returns a failure."""
        try:
            write_swapped(self._engine, folder)
        except (OSError, RuntimeError) as error:  # the latter is torch's word for a full disk
            return error
        return None

    def _residuals(self) -> dict[str, Feedback] | None:
        if self._compression is None or self._compression.residuals.feedbacks is None:
            return None
        return deepcopy(self._compression.residuals.feedbacks)

    def _together(self, write: Callable[[], None]) -> None:
        """Raises on every rank if it fails on one."""
        failure: Exception | None = None
        try:
            write()
        except Exception as error:
            failure = error
        if self._writers is not None:
            has_failed = torch.tensor(int(failure is not None))
            distributed.all_reduce(has_failed, distributed.ReduceOp.MAX, self._writers)
            if has_failed and failure is None:
                raise OSError("another rank could not write its part")
        if failure is not None:
            raise failure


@contextmanager
def _nothing_swapped(engine: deepspeed.DeepSpeedEngine) -> Iterator[None]:
    """Keeps DeepSpeed from copying files of the optimizer's state, which is written otherwise."""
    engine.zero_nvme_offload_optimizer = lambda: False
    try:
        yield
    finally:
        del engine.zero_nvme_offload_optimizer


class _Memory(CheckpointEngine):
    """Keeps what DeepSpeed would have written, and reads what was."""

    def __init__(self) -> None:
        super().__init__()
        self.name = "memory"
        self._files: dict[Path, memoryview] = {}

    def taken(self) -> dict[Path, memoryview]:
        """Returns what was to be written since it was last asked: the bytes of files, by path."""
        files, self._files = self._files, {}
        return files

    def create(self, info: CheckpointCommitInfo) -> None:
        """See `CheckpointEngine`."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """See `CheckpointEngine`."""

    def save(self, state_dict: Any, path: str) -> None:
        """See `CheckpointEngine`."""
        # `deepcopy` would refuse tensors that are no leaves, which ZeRO has.
        content = io.BytesIO()
        torch.save(state_dict, content)
        self._files[Path(path)] = content.getbuffer()

    def load(self, path: str, map_location: Any = None) -> Any:
        """See `CheckpointEngine`; what is read was verified."""
        return torch.load(os.fspath(path), map_location=map_location, weights_only=False)

    def commit(self, info: CheckpointCommitInfo) -> bool:
        """See `CheckpointEngine`."""
        return True
