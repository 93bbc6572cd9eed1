"""What a replica computes: verified, warm for every size, by networks and by portable programs."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest
from hpc.artifact.v1 import artifact_pb2

from models.network import Framework
from registry.artifact import LoadedArtifact, load, publish
from registry.example import example_artifact, example_tensors
from registry.programs import example as programs
from registry.programs.probe import write_probe
from serving.core.channel import Job
from serving.predictor import predictor
from serving.replicas.errors import RefusedArtifactError
from serving.replicas.limits import DEFAULT
from serving.replicas.model import batch_sizes, load_model
from serving.testing.example import example_images, publish_example
from serving.testing.local_replica import local_replica, run


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> LoadedArtifact:
    return publish_example(tmp_path_factory.mktemp("registry") / "artifact")


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """A name for each program that XLA has compiled in this process, kept up to date."""
    events: list[str] = []

    def listen(event: str, duration_s: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize(
    ("largest", "sizes"),
    [
        (1, (1,)),
        (2, (1, 2)),
        (6, (1, 2, 4, 6)),
        (8, (1, 2, 4, 8)),
        (65, (1, 2, 4, 8, 16, 32, 64, 65)),
    ],
)
def test_sizes_are_the_powers_of_two_and_the_largest(largest: int, sizes: tuple[int, ...]) -> None:
    assert batch_sizes(largest) == sizes


@pytest.mark.parametrize("framework", ["flax", "torch", None])
def test_computes_as_the_network_does(
    artifact: LoadedArtifact, framework: Framework | None
) -> None:
    model = load_model(artifact.directory, artifact.digest, framework, 4)
    assert (model.digest, model.version) == (artifact.digest, "1.2.3")
    images = example_images(3)
    outputs = model.compute({"image": images})
    assert list(outputs) == ["logits"]
    np.testing.assert_array_equal(outputs["logits"], predictor(artifact, framework)(images))


@pytest.mark.parametrize("max_batch_size", [1, 6])
def test_once_loaded_it_compiles_nothing(
    artifact: LoadedArtifact, compilations: list[str], max_batch_size: int
) -> None:
    model = load_model(artifact.directory, artifact.digest, "flax", max_batch_size)
    before = len(compilations)
    assert before  # the list does fill
    for batch_size in range(1, max_batch_size + 1):
        model.compute({"image": example_images(batch_size)})
    assert compilations[before:] == []


def two_tensors(directory: Path) -> LoadedArtifact:
    """Publishes a model of two inputs and two outputs, as a program and nothing else."""

    def program(
        weights: dict[str, jax.Array], inputs: dict[str, jax.Array]
    ) -> dict[str, jax.Array]:
        return {
            "scaled": inputs["left"] * weights["weight"][0, 1] + inputs["right"],
            "flags": inputs["right"] > 0,
        }

    (batch,) = jax.export.symbolic_shape("batch")
    shapes = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in programs.WEIGHTS.items()}
    inputs = {name: jax.ShapeDtypeStruct((batch, 4), np.float32) for name in ("left", "right")}
    content = bytes(jax.export.export(jax.jit(program))(shapes, inputs).serialize())
    artifact = programs.signature()
    del artifact.inputs[:], artifact.outputs[:]
    for name in ("left", "right"):
        artifact.inputs.add(name=name, datatype="FP32", shape=[-1, 4])
    artifact.outputs.add(name="scaled", datatype="FP32", shape=[-1, 4])
    artifact.outputs.add(name="flags", datatype="BOOL", shape=[-1, 4])
    kind = programs.FORMATS["stablehlo"]
    artifact.programs.add(format=kind.number, path=kind.path, library_version="1")
    artifact.probe_path = programs.PROBE_PATH
    left, right = np.float32([[8, 16, -8, 0]]), np.float32([[1, -1, 0, 0.5]])
    probe = write_probe(
        {"left": left, "right": right},
        {"scaled": np.float32([[2, 1, -1, 0.5]]), "flags": np.bool_([[1, 0, 0, 1]])},
    )
    files = {programs.PROBE_PATH: probe, kind.path: content}
    publish(directory, artifact, programs.WEIGHTS, files)
    return load(directory)


def test_program_of_several_tensors_is_padded_and_compiles_nothing(
    tmp_path: Path, compilations: list[str]
) -> None:
    loaded = two_tensors(tmp_path / "artifact")
    model = load_model(loaded.directory, loaded.digest, None, 6)
    before = len(compilations)
    assert before
    rng = np.random.default_rng(11)
    for batch_size in range(1, 7):
        left, right = rng.normal(size=(2, batch_size, 4)).astype(np.float32)
        outputs = model.compute({"left": left, "right": right})
        np.testing.assert_allclose(outputs["scaled"], left * np.float32(1 / 8) + right, rtol=1e-6)
        np.testing.assert_array_equal(outputs["flags"], right > 0)
    assert compilations[before:] == []


@pytest.mark.parametrize("shared_min_bytes", [1, 2**30])
def test_served_it_compiles_nothing_either(
    tmp_path: Path, compilations: list[str], shared_min_bytes: int
) -> None:
    """In the thread that computes, from memory of the socket and from memory that is shared."""
    loaded = two_tensors(tmp_path / "artifact")
    model = load_model(loaded.directory, loaded.digest, None, 6)
    before = len(compilations)
    assert before
    rng = np.random.default_rng(12)

    async def every_size() -> None:
        limits = replace(DEFAULT, shared_min_bytes=shared_min_bytes)
        async with local_replica(model, limits=limits) as (channel, _):
            for batch_size in [*range(1, 7), *range(6, 0, -1)]:
                left, right = rng.normal(size=(2, batch_size, 4)).astype(np.float32)
                inputs = {"left": np.split(left, [1]), "right": [right]}
                answer = await run(channel, Job(inputs, batch_size, ["flags", "scaled"], 60.0))
                assert list(answer.outputs) == ["flags", "scaled"]
                scaled = left * np.float32(1 / 8) + right
                np.testing.assert_allclose(answer.outputs["scaled"], scaled, rtol=1e-6)
                np.testing.assert_array_equal(answer.outputs["flags"], right > 0)

    asyncio.run(every_size())
    assert compilations[before:] == []


@pytest.mark.parametrize(
    ("framework", "program"),
    [(None, "torch_export"), ("torch", "torch_export"), ("flax", "stablehlo")],
)
def test_program_stands_in_for_a_network_that_this_tree_has_not(
    tmp_path: Path, framework: Framework | None, program: str
) -> None:
    content = {"stablehlo": programs.stablehlo, "torch_export": programs.torch_export}[program]()
    loaded = unknown_network(tmp_path / "artifact", {program: content})
    model = load_model(loaded.directory, loaded.digest, framework, 3)
    features = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
    outputs = model.compute({"features": features})
    np.testing.assert_allclose(outputs["logits"], programs.expected(features), rtol=1e-5)


def unknown_network(
    directory: Path, contents: dict[str, bytes], num_classes: int = 3
) -> LoadedArtifact:
    artifact = programs.signature()
    artifact.outputs[0].shape[1] = num_classes
    artifact.model.CopyFrom(artifact_pb2.Model(architecture="of_others", config_json="{}"))
    artifact.probe_path = programs.PROBE_PATH
    for name in contents:
        kind = programs.FORMATS[name]
        artifact.programs.add(format=kind.number, path=kind.path, library_version="1")
    publish(directory, artifact, programs.WEIGHTS, programs.files(contents))
    return load(directory)


def refuse(directory: Path, digest: str, framework: Framework | None = None) -> str:
    with pytest.raises(RefusedArtifactError) as error:
        load_model(directory, digest, framework, 4)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_program_of_the_other_framework_is_not_taken_unasked(tmp_path: Path) -> None:
    loaded = unknown_network(tmp_path / "artifact", {"torch_export": programs.torch_export()})
    message = refuse(loaded.directory, loaded.digest, "flax")
    assert "has no portable program for flax" in message
    assert "of_others" in message


def test_program_that_gives_something_else_than_the_signature_says_is_refused(
    tmp_path: Path,
) -> None:
    loaded = unknown_network(tmp_path / "artifact", {"stablehlo": programs.stablehlo()}, 5)
    message = refuse(loaded.directory, loaded.digest)
    assert message.endswith("does not have: logits: expected shape [-1, 5], got [1, 3]")


def test_other_artifact_than_the_one_to_serve_is_refused(artifact: LoadedArtifact) -> None:
    message = refuse(artifact.directory, "0" * 64)
    assert message.endswith(f"is not the artifact {'0' * 64} that was to be served")


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    publish(tmp_path / "artifact", example_artifact(), example_tensors())
    loaded = load(tmp_path / "artifact")
    message = refuse(loaded.directory, loaded.digest)
    assert message.startswith(
        "weights do not fit the model: embedding.projection.weight is missing"
    )


def test_a_directory_without_an_artifact_is_refused(tmp_path: Path) -> None:
    assert refuse(tmp_path, "0" * 64).startswith(f"no artifact at {tmp_path}")


def test_batches_that_do_not_fit_are_refused_by_name(artifact: LoadedArtifact) -> None:
    model = load_model(artifact.directory, artifact.digest, "torch", 4)
    images = example_images(2)
    assert model.refusal({"image": images}, ["logits"]) == ""
    refused = {
        "inputs picture; expected image": ({"picture": images}, ["logits"]),
        "batches of [5]; expected one size from 1 to 4": ({"image": example_images(5)}, ["logits"]),
        "batches of [0]; expected one size from 1 to 4": ({"image": images[:0]}, ["logits"]),
        "outputs probabilities; expected some of logits": ({"image": images}, ["probabilities"]),
        "outputs ; expected some of logits": ({"image": images}, []),
        "image is float64 [2, 8, 8, 1]; expected image FP32 [-1, 8, 8, 1]": (
            {"image": images.astype(np.float64)},
            ["logits"],
        ),
        "image is float32 [2, 64]; expected image FP32 [-1, 8, 8, 1]": (
            {"image": images.reshape(2, 64)},
            ["logits"],
        ),
    }
    for message, (inputs, wanted) in refused.items():
        assert model.refusal(inputs, wanted) == message


@pytest.mark.parametrize("framework", ["flax", "torch"])
def test_it_needs_neither_ray_nor_grpc(artifact: LoadedArtifact, framework: str) -> None:
    # Ray brings both into the process that runs a replica; nothing of ours asks for them there.
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "import serving.replicas.server\n"
        "from serving.replicas.model import load_model\n"
        f"model = load_model(Path({str(artifact.directory)!r}), {artifact.digest!r}, "
        f"{framework!r}, 3)\n"
        "logits = model.compute({'image': np.zeros((3, 8, 8, 1), np.float32)})['logits']\n"
        "assert logits.shape == (3, 10)\n"
        "packages = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(packages & {'ray', 'grpc', 'grpc_health', 'inference', 'jax', 'torch'}))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == f"{[{'flax': 'jax', 'torch': 'torch'}[framework]]}\n", ran.stderr
