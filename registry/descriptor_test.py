"""Each rule of the schema is enforced, and the message names the field."""

from collections.abc import Callable

import pytest
from hpc.artifact.v1 import artifact_pb2

from registry.descriptor import SEMANTIC_VERSION, canonical_json, check
from registry.errors import ArtifactError
from registry.example import example_artifact


def test_example_is_accepted() -> None:
    check(example_artifact())


# Both sets are from the test page of the regular expression that semver.org suggests.
SEMANTIC_VERSIONS = """
0.0.4 1.2.3 10.20.30 1.1.2-prerelease+meta 1.1.2+meta 1.0.0-alpha.0valid 1.0.0-0A.is.legal
1.0.0-alpha-a.b-c-long+build.1-aef.1 1.2.3----RC-SNAPSHOT
"""
OTHER_VERSIONS = """
1 1.2 1.2.3-0123 1.1.2+.123 +invalid alpha 1.0.0-alpha_beta 01.1.1 1.2.3.DEV 1.01.1 v1.2.3 1.2.3-
9.8.7+meta+meta 1.0.0-alpha..1
"""


@pytest.mark.parametrize("version", SEMANTIC_VERSIONS.split())
def test_semantic_version_is_accepted(version: str) -> None:
    assert SEMANTIC_VERSION.fullmatch(version)


@pytest.mark.parametrize("version", [*OTHER_VERSIONS.split(), "", "1.2.3\n"])
def test_other_version_is_refused(version: str) -> None:
    artifact = example_artifact()
    artifact.version = version
    with pytest.raises(ArtifactError, match=r"version is .*expected a semantic version"):
        check(artifact)


@pytest.mark.parametrize(
    "name", ["", "Digits", "a b", "../digits", "a/b", ".a", "a.", "a..b", "digits ", "é", "a" * 64]
)
def test_bad_name_is_refused(name: str) -> None:
    artifact = example_artifact()
    artifact.name = name
    with pytest.raises(ArtifactError, match="name is "):
        check(artifact)


def set_metric(artifact: artifact_pb2.Artifact, value: float) -> None:
    artifact.metrics["loss"] = value


def set_interval(artifact: artifact_pb2.Artifact, key: str, low: float, high: float) -> None:
    artifact.metric_intervals[key].low = low
    artifact.metric_intervals[key].high = high


def add_files(artifact: artifact_pb2.Artifact, *paths: str) -> None:
    for path in sorted(paths):
        artifact.files.add(path=path, sha256="0" * 64)


def add_programs(artifact: artifact_pb2.Artifact) -> None:
    add_files(artifact, "programs/model.pt2", "programs/model.stablehlo", "programs/probe")
    artifact.programs.add(
        format=artifact_pb2.PROGRAM_FORMAT_STABLEHLO,
        path="programs/model.stablehlo",
        library_version="0.10.2",
    )
    artifact.programs.add(
        format=artifact_pb2.PROGRAM_FORMAT_TORCH_EXPORT,
        path="programs/model.pt2",
        library_version="2.12.0",
    )
    artifact.probe_path = "programs/probe"


def edit_programs(
    edit: Callable[[artifact_pb2.Artifact], object],
) -> Callable[[artifact_pb2.Artifact], object]:
    return lambda artifact: [add_programs(artifact), edit(artifact)]


def set_parent(artifact: artifact_pb2.Artifact, **fields: str) -> None:
    parent = {"name": "digits", "version": "1.0.0", "digest": "c" * 64} | fields
    artifact.parent.CopyFrom(artifact_pb2.Parent(**parent))


def test_names_of_classes_programs_and_parent_are_accepted() -> None:
    artifact = example_artifact()
    artifact.class_names[:] = ["zero", "one", "zwölf"]
    artifact.training_run.run = "digits-1.0.0-20261129T083304Z-3fa09c"
    add_programs(artifact)
    set_parent(artifact)
    check(artifact)


def set_shape(artifact: artifact_pb2.Artifact, shape: list[int]) -> None:
    artifact.inputs[0].shape[:] = shape


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda a: a.ClearField("framework"), "framework is 0; expected FRAMEWORK_FLAX"),
        (lambda a: a.model.ClearField("architecture"), "model.architecture is empty"),
        (lambda a: a.model.ClearField("config_json"), "model.config_json is not JSON"),
        (lambda a: a.ClearField("inputs"), "inputs is empty"),
        (lambda a: a.ClearField("outputs"), "outputs is empty"),
        (lambda a: a.inputs.append(a.inputs[0]), "inputs repeats a tensor name"),
        (lambda a: a.outputs[0].ClearField("name"), "outputs has a tensor without a name"),
        (lambda a: setattr(a.inputs[0], "datatype", "float32"), "datatype is 'float32'"),
        (lambda a: set_shape(a, []), r"inputs\['image'\]\.shape is \[\]"),
        (lambda a: set_shape(a, [1, 8]), "expected -1 .the batch."),
        (lambda a: set_shape(a, [-1, 0]), "sizes of at least 1"),
        (lambda a: set_shape(a, [-1, -2]), "sizes of at least 1"),
        (lambda a: set_metric(a, float("nan")), r"metrics\['loss'\] is nan"),
        (lambda a: set_metric(a, float("inf")), r"metrics\['loss'\] is inf"),
        (
            lambda a: set_interval(a, "loss", 0.1, 0.2),
            r"\['loss'\] is of no metric; expected one of",
        ),
        (lambda a: set_interval(a, "accuracy", 0.9, 0.8), "is from 0.9 to 0.8; expected finite"),
        (lambda a: set_interval(a, "accuracy", float("nan"), 1), "is from nan to 1.0; expected"),
        (lambda a: set_interval(a, "accuracy", 0, float("inf")), "is from 0.0 to inf; expected"),
        (lambda a: setattr(a.training_run, "git_commit", "main"), "git_commit is 'main'"),
        (lambda a: setattr(a.training_run, "config_digest", "A" * 64), "config_digest is 'AAA"),
        (lambda a: setattr(a.training_run, "data_digest", ""), "data_digest is ''"),
        (
            lambda a: setattr(a.training_run.finished_at, "seconds", 10**15),
            "training_run.finished_at is no time",
        ),
        (
            lambda a: setattr(a.training_run.started_at, "nanos", -1),
            "training_run.started_at is no time",
        ),
        (lambda a: a.training_run.ClearField("finished_at"), "started_at is after finished_at"),
        (lambda a: [a.files.add(path="b"), a.files.add(path="a")], "not sorted by path"),
        (lambda a: [a.files.add(path="a"), a.files.add(path="a")], "not sorted by path, each once"),
        (lambda a: a.files.add(path="a"), r"files\['a'\]\.sha256 is ''; expected 64"),
        (lambda a: add_files(a, *map(str, range(1001))), "lists 1001 files; expected at most 1000"),
        (lambda a: add_files(a, "a" * 256), "expected at most 1024 bytes, 255 between"),
        (lambda a: add_files(a, "/".join(["a" * 200] * 6)), "expected at most 1024 bytes"),
        (lambda a: add_files(a, ".hidden"), "expected no hidden file"),
        (lambda a: add_files(a, "a/.git/b"), "expected no hidden file"),
        (lambda a: add_files(a, "a\nb"), "is refused; expected a relative path"),
        (lambda a: add_files(a, "a\u202eb"), "is refused; expected a relative path"),
        (lambda a: add_files(a, "Artifact.PB"), "Artifact.PB is no payload"),
        (lambda a: add_files(a, "artifact.pb.sha256"), "is no payload"),
        (lambda a: add_files(a, "signatures/0.sig"), "signatures is no payload"),
        (lambda a: add_files(a, "a", "A"), "'A' and 'a' are refused"),
        (lambda a: add_files(a, "x/a", "X/b"), "'X' and 'x' are refused"),
        (lambda a: add_files(a, "straße", "STRASSE"), "are refused; there are file systems"),
        (lambda a: add_files(a, "\u00e9", "e\u0301"), "are refused; there are file systems"),
        (lambda a: add_files(a, "a", "a/b"), "'a' is refused; it is a folder as well"),
        (lambda a: a.class_names.extend(["a", ""]), r"class_names\[1\] is ''; expected printable"),
        (lambda a: a.class_names.extend(["a\n"]), r"class_names\[0\] is 'a.n'; expected"),
        (
            lambda a: a.class_names.extend(["a", "b", "a"]),
            r"class_names\[2\] is 'a', as an earlier",
        ),
        (edit_programs(lambda a: a.programs.append(a.programs[0])), "has two of one format"),
        (
            edit_programs(lambda a: a.programs[0].ClearField("format")),
            r"programs\[0\]\.format is 0; expected one of PROGRAM_FORMAT_STABLEHLO",
        ),
        (edit_programs(lambda a: setattr(a.programs[1], "format", 9)), r"\[1\]\.format is 9"),
        (
            edit_programs(lambda a: setattr(a.programs[1], "path", "absent")),
            r"programs\[1\]\.path is 'absent', which is not one of files",
        ),
        (
            edit_programs(lambda a: a.programs[0].ClearField("library_version")),
            "library_version is empty",
        ),
        (edit_programs(lambda a: a.ClearField("probe_path")), "probe_path is ''; expected, as"),
        (edit_programs(lambda a: a.ClearField("programs")), "and there are no programs"),
        (lambda a: set_parent(a, digest="c"), "parent.digest is 'c'; expected 64"),
        (lambda a: set_parent(a, name="Digits"), "parent.name is 'Digits'"),
        (lambda a: set_parent(a, version="1"), "parent.version is '1'"),
        (lambda a: setattr(a.training_run, "run", "a\nb"), "training_run.run is"),
    ],
)
def test_broken_rule_is_named(
    edit: Callable[[artifact_pb2.Artifact], object], message: str
) -> None:
    artifact = example_artifact()
    edit(artifact)
    with pytest.raises(ArtifactError, match=message):
        check(artifact)


def test_canonical_json_keeps_integers_and_floats_apart() -> None:
    assert canonical_json('{"b": 1, "a": {"d": 1.0, "c": "é"}}') == (
        '{"a":{"c":"\\u00e9","d":1.0},"b":1}'
    )


OTHER_JSON = ["", "{", "[1]", '"text"', '{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}']
OTHER_JSON += ['{"a":' * 3000 + "1" + "}" * 3000, "[" * 100_000, f'{{"a": {"9" * 5000}}}']


@pytest.mark.parametrize("text", OTHER_JSON, ids=lambda text: text[:12])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match=r"model\.config_json is not"):
        canonical_json(text)
