"""A run that begins from the weights of a trained model, as far as they fit."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.architecture import Model
from models.weights import Weights, init_weights
from registry.artifact import LoadedArtifact, load
from train.config.schema import ConfigError

_MAX_NAMED = 8


class Inherited(NamedTuple):
    """The weights that a run begins from.

    Attributes:
        weights: All of its network, in float32.
        loaded: Names of those that are the artifact's.
        missing: Those that the artifact does not have in this shape; they are drawn.
        left: The artifact's that the network does not have in this shape.
    """

    weights: Weights
    loaded: list[str]
    missing: list[str]
    left: list[str]

    def __str__(self) -> str:
        """Returns what the user is told."""
        number = len(self.loaded)
        parts = [f"{number} tensor{'' if number == 1 else 's'} loaded"]
        parts += [f"drawn anew: {_named(self.missing)}"] if self.missing else []
        parts += [f"left in the artifact: {_named(self.left)}"] if self.left else []
        return "; ".join(parts)


def inherit(model: Model, seed: int, artifact: LoadedArtifact) -> Inherited:
    """Returns the weights of `init_weights`, but for those that the artifact has.

    Args:
        model: Of the run.
        seed: Of the weights that are drawn.
        artifact: Of a model of any configuration; a weight is taken by name where the shape is
            right.
    """
    drawn = init_weights(model, seed)
    fitting = {
        name: np.asarray(artifact.tensors[name], np.float32)
        for name, weight in drawn.items()
        if name in artifact.tensors and artifact.tensors[name].shape == weight.shape
    }
    return Inherited(
        weights={**drawn, **fitting},
        loaded=list(fitting),
        missing=[_shaped(name, drawn) for name in drawn if name not in fitting],
        left=[_shaped(name, artifact.tensors) for name in artifact.tensors if name not in fitting],
    )


def first_weights(model: Model, seed: int, origin: Path | None) -> tuple[Weights, str | None]:
    """Returns the weights before the first step, and what was taken of another model, in words.

    Args:
        model: Of the run.
        seed: Of the weights that are drawn.
        origin: Directory of the artifact that it begins from; None: all weights are drawn.

    Raises:
        ArtifactError: The artifact cannot be read.
        ConfigError: The network has no weight of the artifact's.
    """
    if origin is None:
        return init_weights(model, seed), None
    inherited = inherit(model, seed, load(origin))
    if not inherited.loaded:
        raise ConfigError(
            f"--init-from {origin}: none of its tensors has the name and the shape of one of this "
            f"network; it has {_named(inherited.left)}; expected {_named(inherited.missing)}"
        )
    return inherited.weights, f"from {origin}: {inherited}"


def _shaped(name: str, weights: Mapping[str, np.ndarray]) -> str:
    return f"{name} {list(weights[name].shape)}"


def _named(names: list[str]) -> str:
    others = len(names) - _MAX_NAMED
    shown = ", ".join(names[:_MAX_NAMED])
    return shown if others <= 0 else f"{shown} and {others} more"
