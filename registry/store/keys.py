"""Where things lie in a store: the one layout, of directories and of buckets.

registry.json                                    that this is a store, and of which format
artifacts/DIGEST/...                             an artifact's directory
models/NAME/versions/VERSION.json                a Version; to create it is to publish it
models/NAME/majors/MAJOR/SEQUENCE.json           a Major; the last one holds
models/NAME/aliases/ALIAS/SEQUENCE.json          an AliasMove; the last one says what it means
models/NAME/archived/VERSION/SEQUENCE.json       the same for the mark that a version is archived
evaluations/ARTIFACT_DIGEST/DIGEST/...           an evaluation's directory
"""

MARKER = "registry.json"
ARTIFACTS = "artifacts"
MODELS = "models"
EVALUATIONS = "evaluations"

# An artifact or an evaluation without these is not there: they are what is written last.
LAST_OF_ARTIFACT = "artifact.pb.sha256"
LAST_OF_EVALUATION = "evaluation.pb.sha256"

_SEQUENCE_DIGITS = 8
_RECORD = ".json"


def artifact(digest: str) -> str:
    return f"{ARTIFACTS}/{digest}"


def versions(name: str) -> str:
    return f"{MODELS}/{name}/versions"


def version(name: str, number: str) -> str:
    return f"{versions(name)}/{number}{_RECORD}"


def majors(name: str) -> str:
    return f"{MODELS}/{name}/majors"


def major(name: str, number: int) -> str:
    return f"{majors(name)}/{number}"


def aliases(name: str) -> str:
    return f"{MODELS}/{name}/aliases"


def alias(name: str, name_of_alias: str) -> str:
    return f"{aliases(name)}/{name_of_alias}"


def archived(name: str) -> str:
    return f"{MODELS}/{name}/archived"


def archived_version(name: str, number: str) -> str:
    return f"{archived(name)}/{number}"


def evaluations(artifact_digest: str) -> str:
    return f"{EVALUATIONS}/{artifact_digest}"


def evaluation(artifact_digest: str, digest: str) -> str:
    return f"{evaluations(artifact_digest)}/{digest}"


def in_sequence(key: str, number: int) -> str:
    """The key of a record of a sequence; its names sort as its numbers do."""
    return f"{key}/{number:0{_SEQUENCE_DIGITS}d}{_RECORD}"


def stem(name: str) -> str | None:
    """What a record's name is without its ending; None: it is no record."""
    return name.removesuffix(_RECORD) if name.endswith(_RECORD) else None


def sequence(name: str) -> int | None:
    """The number of a record of a sequence; None: it is none."""
    number = stem(name)
    return int(number) if number and number.isascii() and number.isdigit() else None
