"""What a configuration comes to: a whole run of it, in PyTorch, and what it is set up with."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import deepspeed
import numpy as np
import torch

from comm.compression import Compression, compresses, pieces
from comm.testing import simulation
from models.network import Predict
from tests.effects.scripted import answers
from train import loop, train_torch
from train.backends.deepspeed_backend import DeepSpeedBackend
from train.checkpoint.beginning import NEWEST
from train.checkpoint.run_directory import CHECKPOINTS
from train.checkpoint.store import CheckpointStore
from train.checkpoint.suspension import Suspension
from train.config.schema import TrainConfig
from train.data_parallel import compression_of, ranks_per_node
from train.events import Event, Noted, PeakMemory, Profiled, Resources, Saved, Stepped
from train.launch import torch_ranks
from train.publication import Publication
from train.recipe import Batch

Outcome = dict[str, Any]


def outcome_of(config: TrainConfig, directory: Path) -> Outcome:
    """Trains, evaluates and publishes as `config` says, as the only rank of a process group.

    Args:
        config: The run.
        directory: A new directory.

    Returns:
        All that the run gave and was made of, by name, but times and the configuration itself.
    """
    compression = compression_of(config)
    if compression is not None:
        # One rank alone sends nothing, and ranks are not to be started for every key.
        return exchanged(compression, ranks_per_node(config))
    found: Outcome = {"events": [], "batches": [], "predicted": [], "saved_bytes": 0}
    with _recording_setup(found), _counting_saved(found):
        backend = _Recording(config, found)
        publication = loop.run(config, directory, backend, [_listener(found)])
    assert isinstance(publication, Publication)
    artifact = publication.artifact
    return found | {
        "artifact": (artifact.name, artifact.version, artifact.training_run.seed),
        "programs": [program.path for program in artifact.programs],
        "signature": (str(artifact.inputs), str(artifact.outputs)),
        "data": artifact.training_run.data_digest,
        "files": sorted(path.name for path in directory.iterdir()),
        "checkpoints": CheckpointStore(directory / CHECKPOINTS).steps(),
        "weights": _digest(backend.weights()),
        "answers": answers(config),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "launch": _launched(config, directory),
    }


def exchanged(compression: Compression, per_node: int) -> Outcome:
    """Returns what 4 ranks get of each other's gradients in 2 steps, and in which pieces."""
    gradients = {}
    for side in (32, 64):
        owned, *local = (np.zeros(side**2, np.float32) for _ in range(1 + 4 // per_node))
        residuals = (local, [owned]) if compression.error_feedback else (None, None)
        for step in range(2):
            ranks = [simulation.gradient(rank, step, side**2) for rank in range(4)]
            nodes = [np.mean(ranks[i : i + per_node], axis=0) for i in range(0, 4, per_node)]
            if compresses(compression, (side, side)):
                mean = simulation.all_reduce(
                    nodes, compression, local=residuals[0], owned=residuals[1], step=step
                )
            else:
                mean = np.mean(nodes, axis=0)
            gradients[f"{side} {step}"] = mean
    return {"gradients": _digest(gradients), "pieces": list(pieces(compression, 2**21))}


def _launched(config: TrainConfig, directory: Path) -> str:
    """Returns with what ranks would be started, if there were several."""
    found = []

    def starting(*_: Any, **options: Any) -> list[Suspension]:
        found.append(options["hang_timeout_s"])
        return [Suspension(directory, 1, 1, "")]

    with mock.patch.object(torch_ranks, "run_ranks", starting):
        torch_ranks.train_on_ranks(
            train_torch.train_rank, config, directory, [], NEWEST, world_size=2
        )
    return repr(found)


class _Recording(DeepSpeedBackend):
    """Notes what it is asked to learn from, and how much its models are asked at once."""

    def __init__(self, config: TrainConfig, found: Outcome):
        super().__init__(config)
        self._found = found

    def start(self, weights: Mapping[str, np.ndarray]) -> None:
        self._found["first_weights"] = _digest(weights)
        super().start(dict(weights))

    def step(self, batch: Batch, *scalars: Any) -> Any:
        present = {name: array for name, array in batch._asdict().items() if array is not None}
        self._found["batches"].append(_digest(present))
        return super().step(batch, *scalars)

    def predict_fn(self, weights: Mapping[str, np.ndarray]) -> Predict:
        predict = super().predict_fn(dict(weights))

        def noting(inputs: np.ndarray) -> np.ndarray:
            self._found["predicted"].append(len(inputs))
            return predict(inputs)

        return noting


def _listener(found: Outcome) -> Callable[[Event], None]:
    def listen(event: Event) -> None:
        if isinstance(event, Saved | PeakMemory):  # told when the disk has it; never the same
            return
        if isinstance(event, Resources):  # what it used is never the same again
            event = Resources(event.step, 0, 0, 0, 0, 0, 0)
        if isinstance(event, Profiled):
            event = replace(event, seconds={}, bottleneck="", directory=Path())
        timed = {"examples_per_s": None, "phases": None}
        if isinstance(event, Noted):  # its port is any that is free
            event = Noted(re.sub(r":\d+/", ":0/", event.message))
        shown = vars(event) | (timed if isinstance(event, Stepped) else {})
        found["events"].append(repr(shown))

    return listen


@contextmanager
def _recording_setup(found: Outcome) -> Iterator[None]:
    """Notes what DeepSpeed and torch are told."""
    initialize, set_num_threads = deepspeed.initialize, torch.set_num_threads

    def initializing(*args: Any, **options: Any) -> Any:
        config = json.dumps(options["config"], sort_keys=True, default=repr)
        found["engine"] = re.sub(r"/hpc-offload-\w+", "", config)  # a new directory each time
        return initialize(*args, **options)

    def setting(number: int) -> None:
        found["threads"] = number
        set_num_threads(1)

    with (
        mock.patch.object(deepspeed, "initialize", initializing),
        mock.patch.object(torch, "set_num_threads", setting),
    ):
        yield


@contextmanager
def _counting_saved(found: Outcome) -> Iterator[None]:
    """Counts the bytes that are kept for the way back."""

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        found["saved_bytes"] += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    sha256 = hashlib.sha256()
    for name, array in arrays.items():
        sha256.update(f"{name} {array.dtype} {array.shape}\n".encode())
        sha256.update(np.ascontiguousarray(array).tobytes())
    return sha256.hexdigest()
