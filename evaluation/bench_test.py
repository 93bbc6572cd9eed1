"""An artifact is measured to do what it does, and what cannot be measured is refused."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from base.provenance import library_versions
from evaluation.bench import bench
from evaluation.examples import EvaluationError, config_of, examples_digest, examples_of
from evaluation.programs import PROGRAMS, program_of
from evaluation.quality import measure_quality
from evaluation.speed import batch_sizes, measure_speed
from evaluation.speed_messages import SpeedOptions
from models.torch import export as torch_export
from models.weights import init_weights
from registry.artifact import publish, read_descriptor
from registry.comparison.comparison import compare
from registry.comparison.gates import parse_gate
from registry.comparison.judging import all_passed, judge
from registry.comparison.sides import read_side
from registry.evaluations import StoredEvaluation, read_evaluation
from registry.programs.formats import FORMATS, PROBE_PATH
from registry.programs.probe import write_probe
from train.config.load import load_config
from train.config.schema import TrainConfig
from train.testing.example import PRESETS_DIR, publish_untrained, short_config

_PROGRAMS = ("flax", "torch", "torch_export")
_FEW_CALLS = SpeedOptions(batch_sizes=(4, 1), num_calls=5, num_warm_up_calls=1)


@pytest.fixture(scope="module")
def config() -> TrainConfig:
    return short_config(num_steps=2)


def _canonical(config: TrainConfig) -> bytes:
    content = config.model_dump(mode="json")
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


@pytest.fixture(scope="module")
def artifact(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of weights that were drawn, the last ones too, so that it says something."""
    weights = dict(init_weights(config.model, seed=0))
    rng = np.random.default_rng(0)
    for name, values in weights.items():
        if not values.any():
            weights[name] = rng.normal(0, 0.3, values.shape).astype(np.float32)
    directory = tmp_path_factory.mktemp("artifacts")
    described = publish_untrained(config, weights, directory / "published").artifact
    publish(directory / "without", described, weights)
    # The same, with what it was trained from and a program that needs no network.
    kind = FORMATS["torch_export"]
    described.programs.add(format=kind.number, path=kind.path, library_version="2")
    described.probe_path = PROBE_PATH
    inputs = config.data.load().test.inputs[:2]
    outputs = PROGRAMS["torch"].load(directory / "without")(inputs)
    files = {
        kind.path: torch_export.export(config.model),
        PROBE_PATH: write_probe({"image": inputs}, {"logits": outputs}),
        "training_config.json": _canonical(config),
    }
    publish(directory / "artifact", described, weights, files)
    return directory / "artifact"


@pytest.fixture(scope="module")
def evaluations(
    artifact: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, StoredEvaluation]:
    """Of the artifact by each program, on what it was trained from, as they are read back."""
    directory = tmp_path_factory.mktemp("evaluations")
    for name in _PROGRAMS:
        bench(artifact, directory / name, program=name, speed=_FEW_CALLS)
    return {name: read_evaluation(directory / name) for name in _PROGRAMS}


@pytest.fixture(params=_PROGRAMS)
def measured(
    request: pytest.FixtureRequest, evaluations: dict[str, StoredEvaluation]
) -> StoredEvaluation:
    return evaluations[request.param]


def test_quality_is_that_of_its_answers(
    measured: StoredEvaluation, artifact: Path, config: TrainConfig
) -> None:
    test = config.data.load().test
    logits = PROGRAMS["torch"].load(artifact)(test.inputs).astype(np.float64)
    right = logits.argmax(axis=1) == test.targets
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), test.targets]
    # A tie in float32 may fall to either side.
    assert np.count_nonzero(measured.outcomes["accuracy"] != right) <= 1
    np.testing.assert_allclose(measured.outcomes["loss_nats"], losses, rtol=1e-4, atol=1e-4)
    assert 0.02 < measured.evaluation.metrics["accuracy"] < 0.5
    assert measured.evaluation.higher_is_better["accuracy"]
    assert not measured.evaluation.higher_is_better["loss_nats"]
    interval = measured.evaluation.metric_intervals["accuracy"]
    assert interval.low < measured.evaluation.metrics["accuracy"] < interval.high


def test_it_says_what_was_measured(
    measured: StoredEvaluation, artifact: Path, config: TrainConfig
) -> None:
    found, data = measured.evaluation, config.data.load()
    assert found.artifact_digest == read_descriptor(artifact).digest
    assert (found.name, found.version) == (config.artifact.name, config.artifact.version)
    assert (found.data.source, found.data.split) == ("digits", "test")
    assert found.data.num_examples == len(data.test) == 360
    assert found.data.digest == data.digest
    assert found.data.examples_digest == examples_digest(data.test)
    library = "jax" if found.program == "flax" else "torch"
    assert found.library_versions[library] == library_versions([library])[library]


def test_speed_is_of_each_batch_size(measured: StoredEvaluation) -> None:
    found = measured.evaluation
    assert [(speed.batch_size, speed.num_calls) for speed in found.speeds] == [(1, 5), (4, 5)]
    for speed in found.speeds:
        assert speed.examples_per_s == pytest.approx(
            1000 * speed.batch_size / speed.latency_mean_ms
        )
    # The libraries, and with them a model of some hundred kilobytes, compiled.
    assert 100e6 < found.base_memory_bytes < found.peak_memory_bytes < 3e9


def test_programs_can_be_compared_and_promoted(
    artifact: Path, evaluations: dict[str, StoredEvaluation]
) -> None:
    stored = [evaluations["flax"], evaluations["torch_export"]]
    found = compare(*(read_side(s.evaluation.program, artifact, s) for s in stored))
    assert found.same_examples
    assert all(metric.verdict in ("equal", "no clear difference", None) for metric in found.metrics)
    gates = [parse_gate("accuracy not worse than champion by 0.05"), parse_gate("accuracy > 0.01")]
    assert all_passed(judge(gates, stored[0], stored[1], has_champion=True))


def test_a_program_that_there_is_not(artifact: Path, config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="program 'onnx': expected one of flax, torch"):
        bench(artifact, tmp_path / "e", config=config, program="onnx")
    assert program_of(read_descriptor(artifact).artifact, None) == "flax"


def test_examples_that_do_not_fit(artifact: Path, tmp_path: Path) -> None:
    for preset, message in [
        ("mnist_cnn", r"takes float32 \[8, 8, 1\], but the images are float32 \[28, 28, 1\]"),
        ("waves", r"gives \[10\], but task 'regression' needs"),
        ("bytes", "but the windows are"),
    ]:
        other = load_config(PRESETS_DIR / f"{preset}.yaml")
        with pytest.raises(EvaluationError, match=message) as refused:
            bench(artifact, tmp_path / "e", config=other)
        assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_of_any_size_it_takes_those_of_the_examples(artifact: Path, config: TrainConfig) -> None:
    described = read_descriptor(artifact).artifact
    described.inputs[0].shape[1:3] = [-1, -1]
    assert examples_of(described, config).spec.input_shape == (8, 8, 1)
    described.inputs[0].datatype = "FP64"
    with pytest.raises(EvaluationError, match="takes float64"):
        examples_of(described, config)


def test_what_an_artifact_lacks_is_named(
    artifact: Path, config: TrainConfig, tmp_path: Path
) -> None:
    without = artifact.with_name("without")
    assert config_of(read_descriptor(artifact)) == config
    with pytest.raises(EvaluationError, match="does not hold the configuration"):
        bench(without, tmp_path / "e")
    with pytest.raises(EvaluationError, match="has no stablehlo program"):
        bench(without, tmp_path / "e", config=config, program="stablehlo", speed=_FEW_CALLS)
    assert not list(tmp_path.iterdir())


def test_a_model_that_diverged(config: TrainConfig, artifact: Path) -> None:
    examples = examples_of(read_descriptor(artifact).artifact, config)
    with pytest.raises(EvaluationError, match="is no finite number: it diverged"):
        measure_quality(
            lambda inputs: np.full((len(inputs), 10), np.nan, np.float32),
            examples,
            config.data.load().test,
        )


def test_a_process_that_fails_says_why(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="ended with 1: .*there is no such directory"):
        measure_speed(tmp_path / "no", "torch", np.zeros((1, 8, 8, 1), np.float32), _FEW_CALLS)


@pytest.mark.parametrize("sizes", [(0,), (1, 1), (2**21,)])
def test_batches_of_no_size(sizes: tuple[int, ...]) -> None:
    with pytest.raises(EvaluationError, match="expected each once, from 1 to"):
        batch_sizes(sizes)


def test_the_digest_is_of_inputs_and_targets_and_their_shapes(config: TrainConfig) -> None:
    test = config.data.load().test
    sha256 = hashlib.sha256()
    for array, text in ((test.inputs, "<f4 (360, 8, 8, 1)"), (test.targets, "<i4 (360,)")):
        sha256.update(f"{text}\n".encode() + array.tobytes())
    assert examples_digest(test) == sha256.hexdigest()
