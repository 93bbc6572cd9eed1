"""Residuals on disk, and what becomes of them when the number of ranks changes.

Each rank writes a file, and when all have, the first rank writes `manifest.json`: a directory
without one is of a save that did not end. All ranks write to and read from the same directory.

With as many ranks as wrote it (and as many to a node) a run goes on bit for bit. With others,

- a rank's new local residual is the mean of the old ranks' local residuals, and
- the owned residuals are put together to the whole vector and cut anew,

so that what is pending of the mean over ranks, mean(local) + owned, stays the same. (Of a sum over
ranks, `average=False`, what is pending grows with the number of ranks as the sum does.)
"""

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import distributed

from base.files import replacing, write_file
from comm.torch.errors import communicating
from comm.torch.feedback import Feedback
from comm.torch.subgroup import default_group

_MANIFEST = "manifest.json"
_FORMAT = "8-bit gradient residuals 1"


class CheckpointError(ValueError):
    """A directory holds no complete, readable set of residuals."""


class Saved(NamedTuple):
    """What `load` returns.

    Attributes:
        feedbacks: By the names they were saved under.
        step: Of the next step, as given to `save`.
    """

    feedbacks: dict[str, Feedback]
    step: int


def save(
    directory: str | os.PathLike[str],
    feedbacks: Mapping[str, Feedback],
    *,
    group: distributed.ProcessGroup | None = None,
    ranks_per_node: int | None = None,
    step: int = 0,
) -> None:
    """Writes the residuals of all ranks of a group; every rank calls this.

    Args:
        directory: The same on every rank; made if it is not there. What an earlier save wrote into
            it is replaced, and from the start until the end of this one it cannot be loaded.
        feedbacks: The residuals by name, with the same names on every rank.
        group: The default group unless given.
        ranks_per_node: As in the compression that made them.
        step: Number of the next step.

    Raises:
        OSError: The directory cannot be written.
        CommunicationError: A rank is gone or too slow.
    """
    group = default_group(group)
    rank = distributed.get_rank(group)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    if rank == 0:
        (folder / _MANIFEST).unlink(missing_ok=True)
    save_id = _same_id(group)
    write_own(folder, feedbacks, save_id, group=group)
    with communicating("waiting for all ranks' residuals to be written", group):
        distributed.barrier(group)
    if rank == 0:
        write_manifest(
            folder, feedbacks, save_id, group=group, ranks_per_node=ranks_per_node, step=step
        )
    with communicating("waiting for the manifest of the residuals to be written", group):
        distributed.barrier(group)


def write_own(
    folder: Path,
    feedbacks: Mapping[str, Feedback],
    save_id: str,
    *,
    group: distributed.ProcessGroup | None = None,
) -> None:
    """Writes this rank's residuals, without a word to the others; a part of `save`.

    Args:
        folder: The same on every rank.
        feedbacks: As of `save`.
        save_id: Of this save and of no other into the folder, the same on every rank.
        group: As of `save`.

    Raises:
        OSError: The folder cannot be written.
    """
    group = default_group(group)
    tensors = {}
    for name, feedback in feedbacks.items():
        if not feedback.held():
            continue
        local, *owned = feedback.held()
        for kind, spans in (("local", [local]), ("owned", owned)):
            for span in spans:
                tensors[f"{kind}/{span.start}/{name}"] = span.values.cpu().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    file_name = _file_name(distributed.get_rank(group), distributed.get_world_size(group))
    with replacing(folder / file_name) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={"save_id": save_id})


def write_manifest(
    folder: Path,
    feedbacks: Mapping[str, Feedback],
    save_id: str,
    *,
    group: distributed.ProcessGroup | None = None,
    ranks_per_node: int | None = None,
    step: int = 0,
) -> None:
    """Makes what all ranks wrote loadable; for the first rank, a part of `save`.

    Args:
        folder: As of `write_own`, as are feedbacks, save_id and group.
        feedbacks: This rank's.
        save_id: Of the save.
        group: Of the ranks.
        ranks_per_node: As of `save`.
        step: As of `save`.

    Raises:
        OSError: The folder cannot be written.
    """
    manifest = {
        "format": _FORMAT,
        "save_id": save_id,
        "world_size": distributed.get_world_size(default_group(group)),
        "ranks_per_node": ranks_per_node or 1,
        "step": step,
        "sizes": {name: f.size for name, f in feedbacks.items() if f.held()},
    }
    write_file(folder / _MANIFEST, json.dumps(manifest, indent=1).encode())


def load(
    directory: str | os.PathLike[str],
    *,
    group: distributed.ProcessGroup | None = None,
    ranks_per_node: int | None = None,
    device: torch.device | str = "cpu",
) -> Saved:
    """Reads this rank's residuals.

    Args:
        directory: What `save` was given.
        group: The default group unless given. It may have another number of ranks.
        ranks_per_node: As in the compression that is to use them.
        device: Where they are needed.

    Raises:
        CheckpointError: There is no complete set of residuals; the message says what is wrong.
    """
    group = default_group(group)
    rank, world_size = distributed.get_rank(group), distributed.get_world_size(group)
    folder, per_node = Path(directory), ranks_per_node or 1
    manifest = _read_manifest(folder)
    old_world_size = manifest["world_size"]
    node = range(old_world_size)
    if (old_world_size, manifest["ranks_per_node"]) == (world_size, per_node):
        # Inside a node residuals are shared out; the node's, put together, are its ranks'.
        node = range(rank - rank % per_node, rank - rank % per_node + per_node)
    local = {name: _Mean(size) for name, size in manifest["sizes"].items()}
    owned = {name: torch.zeros(size) for name, size in manifest["sizes"].items()}
    for old_rank in range(old_world_size):
        path = folder / _file_name(old_rank, old_world_size)
        for kind, start, name, values in _read(path, manifest):
            if kind == "owned":
                owned[name][start : start + values.numel()] = values
            elif old_rank in node:
                local[name].add(start, values)
    feedbacks = {}
    for name, mean in local.items():
        feedbacks[name] = Feedback()
        feedbacks[name].inherit(mean.values().to(device), owned[name].to(device))
    return Saved(feedbacks, manifest["step"])


class _Mean:
    """The mean, at each index, of the ranks that hold it."""

    def __init__(self, size: int) -> None:
        self._sum = torch.zeros(size)
        self._count = torch.zeros(size, dtype=torch.int16)

    def add(self, start: int, values: torch.Tensor) -> None:
        self._sum[start : start + values.numel()] += values
        self._count[start : start + values.numel()] += 1

    def values(self) -> torch.Tensor:
        return self._sum.div_(self._count.clamp_(min=1))


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} has no {_MANIFEST}: nothing was saved there, or saving did not end; load an "
            "earlier checkpoint, or start without residuals"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}; load an earlier checkpoint") from error
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise CheckpointError(f'{path} is not of residuals: "format" must be "{_FORMAT}"')
    return manifest


def _read(path: Path, manifest: Mapping[str, Any]) -> Iterable[tuple[str, int, str, torch.Tensor]]:
    """Yields (kind, start, name, values) of each span in a rank's file."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("save_id") != manifest["save_id"]:
                raise CheckpointError(
                    f"{path} is of another save than {_MANIFEST} beside it; load an earlier "
                    "checkpoint"
                )
            for key in file.keys():  # noqa: SIM118  it is no mapping
                kind, start, name = key.split("/", 2)
                yield kind, int(start), name, file.get_tensor(key)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}; the save had {manifest['world_size']} ranks, a file "
            "each, in a directory that all ranks see"
        ) from error


def _same_id(group: distributed.ProcessGroup) -> str:
    """Returns a fresh name, the same on all ranks."""
    device = "cuda" if distributed.get_backend(group) == "nccl" else "cpu"
    drawn = torch.frombuffer(bytearray(uuid.uuid4().bytes), dtype=torch.uint8).to(device)
    with communicating("agreeing on the name of a save", group):
        distributed.broadcast(drawn, group=group, group_src=0)
    return bytes(drawn.tolist()).hex()


def _file_name(rank: int, world_size: int) -> str:
    return f"rank-{rank:05d}-of-{world_size:05d}.safetensors"
