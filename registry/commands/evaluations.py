"""The evaluations of a registry that its user trusts."""

import sys

from hpc.registry.v1 import registry_pb2

from base.text import printable
from registry.access import Access
from registry.comparison.choice import choose, newest
from registry.errors import ArtifactError
from registry.evaluations import StoredEvaluation, read_evaluation


def evaluations_of(access: Access, digest: str) -> list[StoredEvaluation]:
    """Returns the evaluations of an artifact; those that must not be trusted count for nothing.

    One warning on stderr names each of them.
    """
    found = []
    for name in access.store.evaluations(digest):
        try:
            stored = read_evaluation(access.store.fetch_evaluation(digest, name))
            _require_place(stored, digest, name)
            access.check_evaluation(stored)
        except ArtifactError as error:
            print(f"warning: evaluation {name[:12]}: {printable(str(error))}", file=sys.stderr)
            continue
        found.append(stored)
    return found


def _require_place(stored: StoredEvaluation, artifact_digest: str, name: str) -> None:
    """Checks that an evaluation lies where its content belongs.

    A signature says who measured, not of what: that is in the message alone. Another artifact's
    evaluation, well signed and put beside this one, would otherwise speak for it.
    """
    measured = stored.evaluation.artifact_digest
    if measured != artifact_digest:
        raise ArtifactError(
            f"it is of the artifact {printable(measured[:12])}, and lies beside "
            f"{artifact_digest[:12]}; remove it"
        )
    if stored.digest != name:
        raise ArtifactError(f"its digest is {stored.digest}; remove it")


def comparable(
    access: Access, a: registry_pb2.Version | None, b: registry_pb2.Version | None
) -> tuple[StoredEvaluation | None, StoredEvaluation | None]:
    """Returns an evaluation of each of two versions that can best be compared.

    Args:
        access: To the registry.
        a: A version; None: there is none, and so no evaluation of it.
        b: Another one.
    """
    of_a, of_b = (
        [] if version is None else evaluations_of(access, version.digest) for version in (a, b)
    )
    return choose(of_a, of_b) if of_a and of_b else (newest(of_a), newest(of_b))
