"""What differs between what two artifacts say of themselves."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hpc.artifact.v1 import artifact_pb2

# Where something is in neither place, or in one alone.
ABSENT = None


class Change(NamedTuple):
    """Something that is not the same in both.

    Attributes:
        path: Of keys, joined by points.
        a: What it is in the one, as JSON has it; None: it is not there, or null.
        b: What it is in the other.
    """

    path: str
    a: Any
    b: Any


def changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    """Returns what differs in two JSON objects, by the path of its keys, sorted by path.

    Objects are compared key by key. Lists are compared as wholes: of two that differ in length
    nobody knows which values belong to each other.
    """
    flat_a, flat_b = flattened(a), flattened(b)
    return [
        Change(path, flat_a.get(path, ABSENT), flat_b.get(path, ABSENT))
        for path in sorted(flat_a.keys() | flat_b.keys())
        # 1, 1.0 and True are equal in Python, and different settings.
        if repr(flat_a.get(path, ABSENT)) != repr(flat_b.get(path, ABSENT))
    ]


def flattened(value: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Returns each value that is no object with keys, by its path."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        where = f"{path}{key}"
        if isinstance(inner, Mapping) and inner:
            found |= flattened(inner, f"{where}.")
        else:
            found[where] = inner
    return found


def signature(artifact: artifact_pb2.Artifact) -> dict[str, str]:
    """Returns what clients rely on: of each tensor its datatype and shape, by kind and name."""
    return _tensors("input", artifact.inputs) | _tensors("output", artifact.outputs)


def _tensors(kind: str, specs: Iterable[artifact_pb2.TensorSpec]) -> dict[str, str]:
    return {
        f"{kind} {spec.name}": f"{spec.datatype} [{', '.join(map(str, spec.shape))}]"
        for spec in specs
    }


def surroundings(artifact: artifact_pb2.Artifact) -> dict[str, Any]:
    """Returns what an artifact was made from and with, besides its configuration."""
    run = artifact.training_run
    return {
        "framework": artifact_pb2.Framework.Name(artifact.framework),
        "git_commit": run.git_commit,
        "git_dirty": run.git_dirty,
        "config_digest": run.config_digest,
        "data_digest": run.data_digest,
        "seed": run.seed,
        "steps": run.steps,
        "host": run.host,
        "libraries": dict(run.library_versions),
        "environment": dict(run.environment),
        "parent": artifact.parent.digest or None,
    }
