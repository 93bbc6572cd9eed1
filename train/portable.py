"""The programs that a model is published with, which load without this project's code.

They are made before the first step, since they are of the network alone: one that cannot be a
program is refused before hours are spent. After the last step each is held to what the model
predicts for a few held-out examples. One that predicts otherwise is left out with a warning, for
the model is good without it.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from hpc.artifact.v1 import artifact_pb2

from base.provenance import library_versions
from models.architecture import Model
from models.network import ExportError, Framework, Predict
from registry.programs.errors import ProgramError
from registry.programs.formats import FORMATS, PROBE_PATH
from registry.programs.probe import difference, write_probe
from registry.programs.program import bind
from train.config.schema import ConfigError, TrainConfig

# Of the held-out examples, the first. Enough that a program of one example is found out.
NUM_PROBED = 4


class Portable(NamedTuple):
    """What is added to an artifact.

    Attributes:
        programs: For its descriptor.
        files: By path in the artifact, the probe's among them; none without programs.
    """

    programs: tuple[artifact_pb2.Program, ...] = ()
    files: Mapping[str, bytes] = {}


def make_programs(config: TrainConfig) -> dict[str, bytes]:
    """Returns the programs that `artifact.programs` asks for, by name.

    Imports their frameworks, also the one that does not train.

    Raises:
        ConfigError: The network cannot be such a program.
    """
    made = {}
    for name in config.artifact.programs:
        try:
            made[name] = _EXPORTS[name](config.model)
        except (ExportError, ImportError) as error:
            others = [other for other in config.artifact.programs if other != name]
            raise ConfigError(
                f"artifact.programs: {name}: {error}; expected {others}, without it"
            ) from error
    return made


def checked(
    programs: Mapping[str, bytes],
    artifact: artifact_pb2.Artifact,
    weights: Mapping[str, np.ndarray],
    examples: np.ndarray,
    predict: Predict,
    framework: Framework,
    warn: Callable[[str], object],
) -> Portable:
    """Holds programs to a model, and returns those that predict what it does.

    Args:
        programs: As `make_programs` gives them.
        artifact: Whose inputs and outputs are the model's, one each.
        weights: Of the model.
        examples: Inputs, `[n, ...]`, of which the first are taken.
        predict: The model.
        framework: That computes it.
        warn: Told why a program is left out.
    """
    (source,), (result,) = artifact.inputs, artifact.outputs
    batch = examples[:NUM_PROBED]
    inputs = {source.name: batch}
    outputs = {result.name: _predicted(predict, framework, batch)}
    kept = {}
    for name, content in programs.items():
        try:
            difference(bind(content, name, weights, artifact), name, inputs, outputs)
        except ProgramError as error:
            warn(f"the artifact is published without its {name} program: {error}")
        else:
            kept[name] = content
    if not kept:
        return Portable()
    files = {FORMATS[name].path: content for name, content in kept.items()}
    return Portable(_described(kept), files | {PROBE_PATH: write_probe(inputs, outputs)})


def _described(names: Iterable[str]) -> tuple[artifact_pb2.Program, ...]:
    kinds = [FORMATS[name] for name in names]
    versions = library_versions([kind.library for kind in kinds])
    return tuple(
        artifact_pb2.Program(
            format=kind.number, path=kind.path, library_version=versions[kind.library]
        )
        for kind in kinds
    )


def _predicted(predict: Predict, framework: Framework, batch: np.ndarray) -> np.ndarray:
    if framework != "flax":
        return predict(batch)
    import jax

    # As programs compute it: without that, a GPU multiplies float32 with 11 bits.
    with jax.default_matmul_precision("highest"):
        return predict(batch)


def _stablehlo(model: Model) -> bytes:
    if "jax" not in sys.modules:
        import jax

        # The trainer's framework has the accelerator, of which JAX would take most memory.
        jax.config.update("jax_platforms", "cpu")
    from models.flax.export import export

    return export(model)


def _torch_export(model: Model) -> bytes:
    from models.torch.export import export

    return export(model)


_EXPORTS: dict[str, Callable[[Model], bytes]] = {
    "stablehlo": _stablehlo,
    "torch_export": _torch_export,
}
