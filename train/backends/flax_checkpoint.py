"""The state of a training step in JAX on disk, in Orbax's format.

The state is a tree of arrays; Orbax is given them by the paths of their leaves, so that what is
written depends on no type of ours.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from train.backends.flax_update import TrainState


def save(state: TrainState, directory: Path) -> Callable[[], None]:
    """Copies a state to the host, and returns what writes the copy to a new directory."""
    arrays = {name: np.array(leaf) for name, leaf in _by_path(state).items()}

    def write() -> None:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(directory, arrays)

    return write


def load(directory: Path, like: TrainState, shardings: TrainState) -> TrainState:
    """Reads what was saved.

    Args:
        directory: Of `save`.
        like: A state of the same run.
        shardings: Where each array of it is to be.

    Raises:
        ValueError: It is of another network, optimizer or way to exchange gradients.
    """
    with ocp.PyTreeCheckpointer() as checkpointer:
        found = checkpointer.restore(directory)
    expected = _by_path(like)
    shapes = {name: (leaf.shape, leaf.dtype) for name, leaf in expected.items()}
    if shapes != {name: (leaf.shape, leaf.dtype) for name, leaf in found.items()}:
        raise ValueError(f"{directory} holds another state: expected {shapes}")
    leaves = [found[name] for name in expected]
    state = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return jax.tree.map(jax.device_put, state, shardings)


def _by_path(state: TrainState) -> dict[str, jax.Array]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
