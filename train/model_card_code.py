"""How to load an artifact, for its model card: commands and Python that run as they stand."""

from collections.abc import Iterator

from hpc.artifact.v1 import artifact_pb2

from registry.programs.formats import FORMATS
from registry.programs.program import program_names

_OTHER = {artifact_pb2.FRAMEWORK_FLAX: "torch", artifact_pb2.FRAMEWORK_TORCH: "flax"}


def loading(artifact: artifact_pb2.Artifact) -> Iterator[str]:
    """Yields the lines of the section, of every way that this artifact can be loaded."""
    yield from (
        "## Loading",
        "",
        "`DIR` is the directory of this file. Nothing in it is pickled.",
        "",
    )
    yield "Verified, and served by the Open Inference Protocol, in the project that trained it:"
    yield from _block(
        "",
        "(cd DIR && sha256sum -c artifact.pb.sha256)",
        "./bazelw run //registry:hpc -- show DIR",
        "./bazelw run //serving:up -- --model DIR",
    )
    yield "In Python, with that project's networks:"
    yield from _block(
        "python",
        "from pathlib import Path",
        "",
        "from registry.artifact import load",
        "from serving.predictor import predictor",
        "",
        f'predict = predictor(load(Path("DIR")))  # or in the other framework: , '
        f'"{_OTHER[artifact.framework]}")',
    )
    for name in program_names(artifact):
        yield from _PROGRAMS[name](artifact)


def _stablehlo(artifact: artifact_pb2.Artifact) -> Iterator[str]:
    source, result = artifact.inputs[0].name, artifact.outputs[0].name
    yield "Without that project, in DIR, with `jax`, `flatbuffers` and `safetensors`:"
    yield from _block(
        "python",
        "from pathlib import Path",
        "",
        "import jax.export",
        "import numpy as np",
        "from safetensors.numpy import load_file",
        "",
        'weights, probe = load_file("model.safetensors"), load_file("probe.safetensors")',
        f'content = Path("{FORMATS["stablehlo"].path}").read_bytes()',
        "program = jax.export.deserialize(bytearray(content))",
        f'outputs = program.call(weights, {{"{source}": probe["input.{source}"]}})',
        f'np.testing.assert_allclose(outputs["{result}"], probe["output.{result}"], '
        "rtol=1e-4, atol=1e-4)",
    )


def _torch_export(artifact: artifact_pb2.Artifact) -> Iterator[str]:
    source, result = artifact.inputs[0].name, artifact.outputs[0].name
    yield "Without that project, in DIR, with `torch` and `safetensors`:"
    yield from _block(
        "python",
        "import torch",
        "from safetensors.torch import load_file",
        "",
        'weights, probe = load_file("model.safetensors"), load_file("probe.safetensors")',
        f'program = torch.export.load("{FORMATS["torch_export"].path}").module()',
        "# In alphabetical order, as the program was traced.",
        "weights = dict(sorted(weights.items()))",
        f'outputs = program(weights, {{"{source}": probe["input.{source}"]}})',
        f'torch.testing.assert_close(outputs["{result}"], probe["output.{result}"], '
        "rtol=1e-4, atol=1e-4)",
    )


def _block(language: str, *lines: str) -> Iterator[str]:
    yield from ("", f"```{language}", *lines, "```", "")


_PROGRAMS = {"stablehlo": _stablehlo, "torch_export": _torch_export}
