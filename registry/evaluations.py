"""Evaluations on disk: what an artifact was measured to do, beside the artifact itself.

An evaluation is a directory that never changes:

    evaluation.pb.sha256   digest of evaluation.pb, for `sha256sum -c`: the evaluation's identity
    evaluation.pb          the Evaluation message, which holds the digest of the other file
    examples.safetensors   how the model did on each example, from which the metrics follow
    signatures/*.sig       detached signatures over the files above; no part of the identity

`examples.safetensors` holds `weight`, `[num_examples]` float64, how many things are counted of each
example, and `outcome.METRIC`, `[num_examples]` bool or float64, what these add up to: a metric that
has outcomes is their sum over the sum of the weights, which is checked whenever it is read.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from hpc.artifact.v1 import artifact_pb2
from hpc.registry.v1 import registry_pb2

from base.files import new_directory
from registry.contents import compare_files, plain_files
from registry.errors import ArtifactError, PlaceTakenError
from registry.evaluation_rules import check_evaluation
from registry.payload import check_digest, corrupt, read_small, read_verified, write_hashed
from registry.weights import views_of, write_tensors

MESSAGE = "evaluation.pb"
DIGEST = "evaluation.pb.sha256"
EXAMPLES = "examples.safetensors"

# A message is a few kilobytes; of a larger one nothing is parsed.
MAX_MESSAGE_BYTES = 2**20
_MAX_DIGEST_BYTES = 1024

_WEIGHT, _OUTCOME = "weight", "outcome."
_DIGEST_LINE = re.compile(rb"([0-9a-f]{64})  evaluation\.pb\n")

# More than a squared float32 can be, and of so many sums and squares are finite.
_GREATEST_OUTCOME = 1e100

# Sums of many numbers in another order differ by less, and metrics of other examples by more.
_ROUNDING = 1e-9


class StoredEvaluation(NamedTuple):
    """An evaluation whose every byte was verified.

    Attributes:
        evaluation: What was measured.
        outcomes: By metric, `[num_examples]` bool or float64.
        weights: `[num_examples]` float64.
        directory: Where it was read from.
        digest: SHA-256 of the message, which identifies the evaluation.
    """

    evaluation: registry_pb2.Evaluation
    outcomes: Mapping[str, np.ndarray]
    weights: np.ndarray
    directory: Path
    digest: str


def write_evaluation(
    directory: Path,
    evaluation: registry_pb2.Evaluation,
    outcomes: Mapping[str, np.ndarray],
    weights: np.ndarray,
) -> StoredEvaluation:
    """Writes a new evaluation, which appears complete or not at all.

    Args:
        directory: Where nothing stands, or an empty directory. Missing parents are made.
        evaluation: Complete but for size and digest of the examples, which are filled in.
        outcomes: Of metrics that are means, by name; see above.
        weights: `[num_examples]`.

    Raises:
        ArtifactError: A field breaks a rule of the schema, metrics do not follow from outcomes, or
            the directory cannot be written.
        PlaceTakenError: Something stands there.
    """
    tensors = {f"{_OUTCOME}{name}": values for name, values in outcomes.items()}
    written = registry_pb2.Evaluation()
    written.CopyFrom(evaluation)
    try:
        with new_directory(directory) as assembled:
            written.examples_size_bytes, written.examples_sha256 = write_hashed(
                assembled / EXAMPLES,
                lambda write: write_tensors(write, tensors | {_WEIGHT: weights}),
            )
            check_evaluation(written)
            _check_outcomes(written, outcomes, weights)
            message = written.SerializeToString(deterministic=True)
            (assembled / MESSAGE).write_bytes(message)
            (assembled / DIGEST).write_text(f"{_sha256(message)}  {MESSAGE}\n")
    except FileExistsError as error:
        raise PlaceTakenError(
            f"cannot write an evaluation to {directory}: {error.strerror}; choose a new directory"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: no path can hold a NUL
        raise ArtifactError(
            f"cannot write an evaluation to {directory}: "
            f"{getattr(error, 'strerror', None) or error}"
        ) from error
    return StoredEvaluation(written, dict(outcomes), weights, directory, _sha256(message))


def read_evaluation(directory: Path) -> StoredEvaluation:
    """Reads an evaluation whole; the bytes that were verified are the bytes that are parsed.

    Raises:
        ArtifactError: There is none, a file is missing, too large, not listed, no plain file, or of
            another digest than recorded; the message breaks a rule of its schema; or the metrics do
            not follow from the examples.
    """
    _require_files(directory)
    line = _DIGEST_LINE.fullmatch(read_small(directory / DIGEST, _MAX_DIGEST_BYTES))
    if line is None:
        raise corrupt(directory / DIGEST, f"it is not '<64 hexadecimal digits>  {MESSAGE}'")
    digest = line[1].decode()
    message = read_small(directory / MESSAGE, MAX_MESSAGE_BYTES)
    check_digest(directory / MESSAGE, _sha256(message), digest)
    evaluation = _parse(directory / MESSAGE, message)
    listed = artifact_pb2.File(
        path=EXAMPLES,
        size_bytes=evaluation.examples_size_bytes,
        sha256=evaluation.examples_sha256,
    )
    content = read_verified(directory, listed)
    try:
        outcomes, weights = _outcomes_of(views_of(content))
        _check_outcomes(evaluation, outcomes, weights)
    except ArtifactError as error:
        raise corrupt(directory / EXAMPLES, str(error)) from error
    return StoredEvaluation(evaluation, outcomes, weights, directory, digest)


def _parse(path: Path, message: bytes) -> registry_pb2.Evaluation:
    try:
        evaluation = registry_pb2.Evaluation.FromString(message)
        check_evaluation(evaluation)
    except DecodeError as error:
        raise corrupt(path, "it is not an Evaluation message") from error
    except ArtifactError as error:
        raise corrupt(path, str(error)) from error
    return evaluation


def _outcomes_of(tensors: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    if _WEIGHT not in tensors:
        raise ArtifactError(f"it has no tensor {_WEIGHT!r}")
    weights = tensors.pop(_WEIGHT)
    for name in tensors:
        if not name.startswith(_OUTCOME):
            raise ArtifactError(f"it has a tensor {name!r}; expected '{_OUTCOME}METRIC'")
    return {name.removeprefix(_OUTCOME): values for name, values in tensors.items()}, weights


def _check_outcomes(
    evaluation: registry_pb2.Evaluation, outcomes: Mapping[str, np.ndarray], weights: np.ndarray
) -> None:
    shape = (evaluation.data.num_examples,)
    _check_tensor(_WEIGHT, weights, shape, ("float64",))
    total = float(weights.sum())
    if weights.min() < 0 or not 0 < total < np.inf:
        raise ArtifactError("weights of examples: expected numbers >= 0 that are not all 0")
    for name, values in outcomes.items():
        _check_tensor(f"{_OUTCOME}{name}", values, shape, ("bool", "float64"))
        if name not in evaluation.metrics:
            raise ArtifactError(
                f"outcomes of {name!r}, which is no metric; expected some of "
                f"{sorted(evaluation.metrics)}"
            )
        if values.dtype == bool and not (weights == 1).all():
            raise ArtifactError(f"outcomes of {name!r} are bool, but weights are not all 1")
        mean, said = float(values.sum()) / total, evaluation.metrics[name]
        if not np.isclose(mean, said, rtol=_ROUNDING, atol=_ROUNDING):
            raise ArtifactError(f"metrics[{name!r}] is {said}, but the examples say {mean}")


def _check_tensor(
    name: str, tensor: np.ndarray, shape: tuple[int, ...], dtypes: tuple[str, ...]
) -> None:
    if tensor.shape != shape or tensor.dtype.name not in dtypes:
        raise ArtifactError(
            f"tensor {name!r} is {tensor.dtype} {list(tensor.shape)}; expected "
            f"{' or '.join(dtypes)} {list(shape)}, one for each example"
        )
    if not (np.abs(tensor) <= _GREATEST_OUTCOME).all():
        raise ArtifactError(
            f"tensor {name!r} has numbers that are not finite, or beyond {_GREATEST_OUTCOME:g}"
        )


def _require_files(directory: Path) -> None:
    """Checks that the directory holds the files of an evaluation, and signatures at the most."""
    if not directory.is_dir():
        raise ArtifactError(f"no evaluation at {directory}: there is no such directory")
    found, needed = plain_files(directory), {MESSAGE, DIGEST, EXAMPLES}
    if missing := sorted(needed - found):
        raise ArtifactError(f"no evaluation at {directory}: {', '.join(missing)} missing")
    compare_files(directory, found, needed)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
