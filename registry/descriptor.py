"""The rules an Artifact message obeys before it is published and after it is read back.

Reference: proto/hpc/artifact/v1/artifact.proto states each rule beside its field; Semantic
Versioning 2.0.0 (semver.org) is the source of `SEMANTIC_VERSION`.
"""

import json
import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath

from hpc.artifact.v1 import artifact_pb2

from registry.errors import ArtifactError
from registry.image_rules import check_image_preprocessing
from registry.sequence_rules import check_sequences

# The files that every artifact has, and the folder of signatures, which no descriptor lists.
DESCRIPTOR = "artifact.pb"
DIGEST = "artifact.pb.sha256"
WEIGHTS = "model.safetensors"
SIGNATURES = "signatures"
# The whole configuration of the run, whose SHA-256 is training_run.config_digest.
TRAINING_CONFIG = "training_config.json"

# A descriptor is a few kilobytes; a larger one is not read, let alone parsed.
MAX_DESCRIPTOR_BYTES = 16 * 2**20

NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
MAX_NAME_LENGTH = 63

# Of one artifact; what a file system and an archive can hold is more.
MAX_FILES = 1000
MAX_PATH_BYTES = 1024
MAX_PART_BYTES = 255

_NUMBER = r"(?:0|[1-9][0-9]*)"
_PRE_RELEASE = rf"(?:{_NUMBER}|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
SEMANTIC_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    rf"(?:-{_PRE_RELEASE}(?:\.{_PRE_RELEASE})*)?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?"
)
SHA256 = re.compile(r"[0-9a-f]{64}")
GIT_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}|unknown")

PROGRAM_FORMATS = (
    artifact_pb2.PROGRAM_FORMAT_STABLEHLO,
    artifact_pb2.PROGRAM_FORMAT_TORCH_EXPORT,
)

DATATYPES = frozenset(
    [
        "BOOL",
        "UINT8",
        "UINT16",
        "UINT32",
        "UINT64",
        "INT8",
        "INT16",
        "INT32",
        "INT64",
        "FP16",
        "BF16",
        "FP32",
        "FP64",
        "BYTES",
    ]
)


def check(artifact: artifact_pb2.Artifact) -> None:
    """Raises ArtifactError, naming the field, if `artifact` breaks a rule of its schema."""
    _require(
        len(artifact.name) <= MAX_NAME_LENGTH and NAME.fullmatch(artifact.name),
        f"name is {artifact.name!r}; expected at most {MAX_NAME_LENGTH} lower-case letters and "
        "digits joined by single '.', '_' or '-', such as 'digits'",
    )
    _require(
        SEMANTIC_VERSION.fullmatch(artifact.version),
        f"version is {artifact.version!r}; expected a semantic version such as '1.0.0'",
    )
    _require(
        artifact.framework in (artifact_pb2.FRAMEWORK_FLAX, artifact_pb2.FRAMEWORK_TORCH),
        f"framework is {artifact.framework}; expected FRAMEWORK_FLAX or FRAMEWORK_TORCH",
    )
    _require(artifact.model.architecture, "model.architecture is empty; name the network")
    canonical_json(artifact.model.config_json)
    _check_tensors("inputs", artifact.inputs)
    _check_tensors("outputs", artifact.outputs)
    check_sequences(artifact)
    for key, value in artifact.metrics.items():
        _require(math.isfinite(value), f"metrics[{key!r}] is {value}; expected a finite number")
    for key, interval in artifact.metric_intervals.items():
        _check_interval(key, interval, artifact.metrics)
    _check_run(artifact.training_run)
    paths = [file.path for file in artifact.files]
    _check_paths(paths)
    for file in artifact.files:
        _check_digest(f"files[{file.path!r}].sha256", file.sha256)
    _check_class_names(artifact.class_names)
    _check_programs(artifact, paths)
    if artifact.HasField("parent"):
        _check_parent(artifact.parent)
    if artifact.HasField("image_preprocessing"):
        check_image_preprocessing(artifact)


def canonical_json(text: str) -> str:
    """The JSON object in `text` in canonical form: sorted keys, no whitespace, ASCII only.

    Raises:
        ArtifactError: `text` is not a JSON object, or holds NaN, Infinity, an integer of thousands
            of digits, or thousands of brackets in each other.
    """
    try:
        value = json.loads(text)
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError) as error:  # RecursionError: thousands of brackets
        raise ArtifactError(f"model.config_json is not JSON: {error}") from error
    _require(isinstance(value, dict), "model.config_json is not a JSON object; expected {...}")
    return canonical


def _check_tensors(field: str, tensors: Iterable[artifact_pb2.TensorSpec]) -> None:
    names = [tensor.name for tensor in tensors]
    _require(names, f"{field} is empty; an artifact states its whole signature")
    _require(len(set(names)) == len(names), f"{field} repeats a tensor name: {names}")
    for tensor in tensors:
        where = f"{field}[{tensor.name!r}]"
        _require(tensor.name, f"{field} has a tensor without a name")
        _require(
            tensor.datatype in DATATYPES,
            f"{where}.datatype is {tensor.datatype!r}; expected one of {sorted(DATATYPES)}",
        )
        _require(
            tensor.shape and tensor.shape[0] == -1 and all(d == -1 or d > 0 for d in tensor.shape),
            f"{where}.shape is {list(tensor.shape)}; expected -1 (the batch), then sizes of at "
            "least 1 or -1 for any",
        )


def _check_interval(
    key: str, interval: artifact_pb2.Interval, metrics: Mapping[str, float]
) -> None:
    where = f"metric_intervals[{key!r}]"
    _require(key in metrics, f"{where} is of no metric; expected one of {sorted(metrics)}")
    low, high = interval.low, interval.high
    _require(
        -math.inf < low <= high < math.inf,
        f"{where} is from {low} to {high}; expected finite numbers, the lower one first",
    )


def _check_run(run: artifact_pb2.TrainingRun) -> None:
    _require(
        GIT_COMMIT.fullmatch(run.git_commit),
        f"training_run.git_commit is {run.git_commit!r}; expected a commit hash or 'unknown'",
    )
    _check_digest("training_run.config_digest", run.config_digest)
    _check_digest("training_run.data_digest", run.data_digest)
    _require(
        run.run.isprintable() and len(run.run.encode()) <= MAX_PART_BYTES,
        f"training_run.run is {run.run[:MAX_PART_BYTES]!r}; expected the name of a directory",
    )
    for field in ("started_at", "finished_at"):
        try:
            getattr(run, field).ToJsonString()
        except ValueError as error:
            raise ArtifactError(f"training_run.{field} is no time: {error}") from error
    _require(
        run.started_at.ToNanoseconds() <= run.finished_at.ToNanoseconds(),
        "training_run.started_at is after finished_at",
    )


def _check_digest(field: str, digest: str) -> None:
    _require(
        SHA256.fullmatch(digest),
        f"{field} is {digest!r}; expected 64 lower-case hexadecimal digits",
    )


def _check_class_names(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for index, name in enumerate(names):
        where = f"class_names[{index}]"
        _require(name and name.isprintable(), f"{where} is {name!r}; expected printable text")
        _require(name not in seen, f"{where} is {name!r}, as an earlier one; expected each once")
        seen.add(name)


def _check_programs(artifact: artifact_pb2.Artifact, paths: Collection[str]) -> None:
    formats = [program.format for program in artifact.programs]
    _require(
        len(set(formats)) == len(formats), "programs has two of one format; expected one at most"
    )
    for index, program in enumerate(artifact.programs):
        where = f"programs[{index}]"
        _require(
            program.format in PROGRAM_FORMATS,
            f"{where}.format is {program.format}; expected one of "
            f"{', '.join(map(artifact_pb2.ProgramFormat.Name, PROGRAM_FORMATS))}",
        )
        _require(
            program.path in paths and program.path != WEIGHTS,
            f"{where}.path is {program.path!r}, which is not one of files: {list(paths)}",
        )
        _require(program.library_version, f"{where}.library_version is empty; name the version")
    if artifact.programs:
        _require(
            artifact.probe_path in paths and artifact.probe_path != WEIGHTS,
            f"probe_path is {artifact.probe_path!r}; expected, as there are programs, one of "
            f"files: {list(paths)}",
        )
    else:
        _require(
            not artifact.probe_path,
            f"probe_path is {artifact.probe_path!r}, and there are no programs to be checked",
        )


def _check_parent(parent: artifact_pb2.Parent) -> None:
    _check_digest("parent.digest", parent.digest)
    _require(
        len(parent.name) <= MAX_NAME_LENGTH and NAME.fullmatch(parent.name),
        f"parent.name is {parent.name!r}; expected the name of an artifact, such as 'digits'",
    )
    _require(
        SEMANTIC_VERSION.fullmatch(parent.version),
        f"parent.version is {parent.version!r}; expected a semantic version such as '1.0.0'",
    )


def _check_paths(paths: list[str]) -> None:
    _require(
        len(paths) <= MAX_FILES, f"files lists {len(paths)} files; expected at most {MAX_FILES}"
    )
    for path in paths:
        _check_path(path)
    _require(paths == sorted(set(paths)), f"files are not sorted by path, each once: {paths}")
    _check_clashes(paths)


def _check_path(path: str) -> None:
    parts = PurePosixPath(path).parts
    # PurePosixPath drops what stands for nothing: 'a//b', './a' and 'a/'.
    plain = "\\" not in path and path.isprintable() and path == "/".join(parts)
    _require(
        plain and parts and not path.startswith("/") and ".." not in parts,
        f"file path {path!r} is refused; expected a relative path without '.', '..' or '\\'",
    )
    _require(
        not any(part.startswith(".") for part in parts),
        f"file path {path!r} is refused; expected no hidden file, which tools pass over",
    )
    _require(
        len(path.encode()) <= MAX_PATH_BYTES
        and all(len(part.encode()) <= MAX_PART_BYTES for part in parts),
        f"file path {path[:MAX_PART_BYTES]!r} is refused; expected at most {MAX_PATH_BYTES} bytes, "
        f"{MAX_PART_BYTES} between two '/'",
    )
    _require(
        _folded(parts[0]) not in (DESCRIPTOR, DIGEST, SIGNATURES),
        f"file path {path!r} is refused; {parts[0]} is no payload of an artifact",
    )


def _check_clashes(paths: Iterable[str]) -> None:
    """Refuses paths that some file system takes for the same, or for a file and a folder."""
    spelled: dict[str, str] = {}
    folders: set[str] = set()
    for path in paths:
        whole = PurePosixPath(path)
        above = [str(parent) for parent in whole.parents][:-1]
        folders |= set(above)
        for part in (path, *above):
            other = spelled.setdefault(_folded(part), part)
            _require(
                other == part,
                f"file paths {other!r} and {part!r} are refused; there are file systems where "
                "both are one",
            )
    for path in paths:
        _require(path not in folders, f"file path {path!r} is refused; it is a folder as well")


def _folded(name: str) -> str:
    """Returns a name as file systems compare it that heed neither case nor composition."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _require(holds: object, message: str) -> None:
    if not holds:
        raise ArtifactError(message)
