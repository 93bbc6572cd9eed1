"""What replicas say of themselves, where gateways read it: in the key-value store of Ray's head.

A store rather than an actor with a name: to put a value takes a call of a quarter of a
millisecond, while an actor is one more process, of 80 MB and most of a second, that can die.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

from ray.experimental import internal_kv

_NAMESPACE = b"hpc.serving"


@dataclass(frozen=True)
class Announcement:
    """A replica that is warm, or one that is not going to be.

    Attributes:
        replica: Its name, unique among all that ever were.
        addresses: Where it listens; none if it has failed.
        node: On which it runs, as Ray knows it.
        digest: Of the artifact that it serves.
        failure: Why it did not start, in a line for people; "" if it did.
        detail: Where it failed, if that was no refusal of the artifact: a traceback.
        failures: How many in a row have not, with this one.
    """

    replica: str
    addresses: tuple[str, ...] = ()
    node: str = ""
    digest: str = ""
    failure: str = ""
    detail: str = ""
    failures: int = 0


def announce(application: str, announcement: Announcement) -> None:
    """Says that a replica is warm, or has failed. Of failures only the last one is kept."""
    key = _failed(application) if announcement.failure else _warm(application, announcement.replica)
    internal_kv._internal_kv_put(key, json.dumps(asdict(announcement)), namespace=_NAMESPACE)
    if not announcement.failure:
        internal_kv._internal_kv_del(_failed(application), namespace=_NAMESPACE)


def withdraw(application: str, replica: str) -> None:
    """Says that a replica is no more."""
    internal_kv._internal_kv_del(_warm(application, replica), namespace=_NAMESPACE)


def failure(application: str) -> Announcement | None:
    """Returns the last replica that did not start, unless one has started since."""
    value = internal_kv._internal_kv_get(_failed(application), namespace=_NAMESPACE)
    return None if value is None else _decode(value)


def warm(application: str, known: Collection[str] = ()) -> Mapping[str, Announcement | None]:
    """Returns the replicas that are warm, by name.

    Args:
        application: Whose.
        known: Of these the announcement is known already, and is None here.
    """
    prefix = _warm(application, "")
    found: dict[str, Announcement | None] = {}
    for key in internal_kv._internal_kv_list(prefix, namespace=_NAMESPACE):
        name = key.removeprefix(prefix.encode()).decode()
        if name in known:
            found[name] = None
        elif (value := internal_kv._internal_kv_get(key, namespace=_NAMESPACE)) is not None:
            found[name] = _decode(value)
    return found


def forget(application: str) -> None:
    """Removes all that was said of an application."""
    for key in (_warm(application, ""), _failed(application)):
        internal_kv._internal_kv_del(key, del_by_prefix=True, namespace=_NAMESPACE)


def _warm(application: str, replica: str) -> str:
    return f"warm/{application}/{replica}"


def _failed(application: str) -> str:
    return f"failed/{application}/"


def _decode(value: bytes) -> Announcement:
    fields = json.loads(value)
    return Announcement(**fields | {"addresses": tuple(fields["addresses"])})
