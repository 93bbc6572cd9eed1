"""From a URL to the place where a store keeps things."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from registry.errors import StoreError
from registry.store.local_objects import LocalObjects
from registry.store.objects import Objects

ACCEPTED = "a path, file://PATH, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"

# Each scheme with the one by which fsspec knows it. The last one is a process's own, for tests.
_REMOTE = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "memory": "memory"}


def open_objects(url: str | Path) -> Objects:
    """Returns the place at a URL; what is there is not looked at.

    Raises:
        StoreError: It is no place for a store.
    """
    text = os.fspath(url)
    if not text:
        raise StoreError(f"the store is ''; name {ACCEPTED}")
    scheme, separator, rest = text.partition("://")
    if isinstance(url, Path) or not separator:
        return _local(Path(text))
    if scheme == "file":
        return _local(_path(text))
    if scheme not in _REMOTE:
        raise StoreError(f"{_without_secrets(text)!r} is no store: expected {ACCEPTED}")
    if not rest.strip("/") or ({"?", "#", "@"} & set(rest)) or ".." in rest.split("/"):
        raise StoreError(
            f"{_without_secrets(text)!r} is no store: expected a bucket and a prefix, without '?', "
            "'#', '@' or '..'; credentials come from the environment"
        )
    # fsspec and what it needs take a second to import, which local stores do not wait for.
    from registry.store.remote_objects import RemoteObjects

    return RemoteObjects(_REMOTE[scheme], rest.strip("/"))


def cache_directory() -> Path:
    """Returns where artifacts of remote stores are kept on this machine."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "hpc", "registry")


def _local(path: Path) -> LocalObjects:
    if "\0" in str(path):
        raise StoreError("the store's path has a NUL in it; name one that a directory can have")
    try:
        is_other = path.exists() and not path.is_dir()
    except OSError as error:
        raise StoreError(f"there can be no store at {path}: {error.strerror}") from error
    if is_other:
        raise StoreError(f"the store {path} is a file; name a directory, which may be new")
    return LocalObjects(path)


def _path(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise StoreError(
            f"{url!r} is no store: a file URL has three slashes, as file:///srv/models"
        )
    return Path(unquote(parts.path))


def _without_secrets(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"[:200]
