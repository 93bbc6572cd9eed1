"""The state of a training step in JAX on disk, in Orbax's format.

The state is a tree of arrays; Orbax is given them by the paths of their leaves, so that what is
written depends on no type of ours.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from comm.compression import Compression
from comm.jax.transformation import CompressionState, resize_state
from train.backends.flax_update import TrainState


def save(state: TrainState, directory: Path) -> Callable[[], None]:
    """Copies a state to the host, and returns what writes the copy to a new directory."""
    arrays = {name: np.array(leaf) for name, leaf in _by_path(state).items()}

    def write() -> None:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(directory, arrays)

    return write


def load(
    directory: Path,
    like: TrainState,
    shardings: TrainState,
    compression: Compression | None,
    world_size: int,
) -> TrainState:
    """Reads what was saved, by whichever number of devices.

    Args:
        directory: Of `save`.
        like: A state of the same run.
        shardings: Where each array of it is to be.
        compression: That its gradients go through, if any.
        world_size: Devices that are to go on.

    Raises:
        ValueError: It is of another network, optimizer or way to exchange gradients.
    """
    with ocp.PyTreeCheckpointer() as checkpointer:
        found = checkpointer.restore(directory)
    expected = _by_path(like)
    if found.keys() != expected.keys():
        raise ValueError(f"{directory} holds another state: expected {', '.join(expected)}")
    state = jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in expected])
    if compression is not None:
        state = _resized(state, like, compression, world_size)
    shapes = {name: (leaf.shape, leaf.dtype) for name, leaf in expected.items()}
    if shapes != {name: (leaf.shape, leaf.dtype) for name, leaf in _by_path(state).items()}:
        raise ValueError(f"{directory} holds another state: expected {shapes}")
    return jax.tree.map(jax.device_put, state, shardings)


def _resized(
    state: TrainState, like: TrainState, compression: Compression, world_size: int
) -> TrainState:
    """Returns a state with as much of what compression carries over as there are devices."""

    def resized(part: Any, own: Any) -> Any:
        if not isinstance(part, CompressionState) or part.owned is None:
            return part
        if len(part.owned) == len(own.owned):  # with nodes there is no other number
            return part
        return resize_state(part, compression, world_size)

    return jax.tree.map(
        resized, state, like, is_leaf=lambda part: isinstance(part, CompressionState)
    )


def _by_path(state: TrainState) -> dict[str, jax.Array]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
