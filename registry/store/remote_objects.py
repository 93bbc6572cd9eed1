"""Objects in a bucket of S3, Google Cloud Storage or Azure Blob Storage, through fsspec.

All three create a key only if it is absent when they are asked to: S3 by the header
`If-None-Match: *` of PutObject and of CompleteMultipartUpload, Google by `ifGenerationMatch=0`,
Azure by `If-None-Match: *`. fsspec calls it the mode "create". What is written appears whole.

Credentials, regions and endpoints are the environment's, as each cloud's own tools read them.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fsspec

from registry.errors import StoreError
from registry.store.copying import copy_file, make_read_only
from registry.store.objects import MAX_READ_BYTES, PARTIAL, Stored
from registry.store.remote_errors import creates_nothing, is_conflict, telling

# How often a key is asked for that another writer is creating at this very moment.
_MAX_ATTEMPTS = 20

# Under which of these each cloud says when an object was written.
_MODIFIED = ("LastModified", "updated", "last_modified", "created")


class RemoteObjects:
    """Objects below a prefix of a bucket; see `registry.store.objects.Objects`.

    A process that is forked off opens its own.
    """

    def __init__(self, protocol: str, root: str) -> None:
        self.url = f"{protocol}://{root}"
        self._root = root
        self._is_s3 = protocol == "s3"
        self._has_bucket = False
        # Of what may only be linked to: which file, when it had been written then, and its size.
        self._staged: dict[Path, tuple[int, int, int]] = {}
        with telling(self.url, "open"):
            # A cache would hide what others write, and an old instance another endpoint.
            self._files = fsspec.filesystem(
                protocol, use_listings_cache=False, skip_instance_cache=True
            )

    def create(self, key: str, content: bytes) -> bool:
        with telling(self.url, "write"):
            return self._create(
                lambda: self._files.pipe_file(self._at(key), content, mode="create")
            )

    def read(self, key: str) -> bytes | None:
        with telling(self.url, "read"):
            try:
                content = self._files.cat_file(self._at(key), start=0, end=MAX_READ_BYTES + 1)
            except FileNotFoundError:
                self._require_bucket()
                return None
        return self._bounded(key, content)

    def read_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        wanted = list(keys)
        paths = [self._at(key) for key in wanted]
        if not wanted:
            return {}
        contents = {}
        with telling(self.url, "read"):
            ends = [MAX_READ_BYTES + 1] * len(wanted)
            found = self._files.cat_ranges(paths, [0] * len(wanted), ends, on_error="return")
            for key, content in zip(wanted, found, strict=True):
                if isinstance(content, FileNotFoundError):
                    continue
                if isinstance(content, Exception):
                    raise content
                contents[key] = self._bounded(key, content)
        return contents

    def names(self, key: str) -> list[str]:
        path = self._at(key)
        with telling(self.url, "read"):
            try:
                found = self._list_s3(path) if self._is_s3 else self._files.ls(path, detail=False)
            except FileNotFoundError:
                return []
        below = [name.strip("/") for name in found if self._is_below(name, path)]
        names = {name.rpartition("/")[2] for name in below}
        return sorted(name for name in names if name and not name.startswith(PARTIAL))

    @contextmanager
    def staging(self, source: Path) -> Iterator[Path]:
        """Beside the source, if that can be written, so that its files need not be copied."""
        beside = source.absolute().parent
        directory = beside if os.access(beside, os.W_OK) else None
        try:
            with TemporaryDirectory(prefix=PARTIAL, dir=directory) as staged:
                yield Path(staged)
        except OSError as error:
            raise StoreError(
                f"cannot prepare {source}: {error.filename}: {error.strerror or error}"
            ) from error
        finally:
            self._staged.clear()

    def stage_file(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another file system, or somebody else's file
            copy_file(source, target)
        self._staged[target] = _version_of(target)

    def add_directory(self, key: str, staged: Path, last: str) -> bool:
        sizes = {
            path.relative_to(staged).as_posix(): path.stat().st_size
            for path in sorted(staged.rglob("*"))
            if path.is_file()
        }
        there = {stored: size for stored, (size, _) in self._below(key).items()}
        self._require_same(key, sizes, there)
        missing = sorted(sizes.keys() - there.keys() - {last})
        for name in missing:
            self._upload(staged / name, f"{key}/{name}")
        self._require_unchanged(staged)
        if last not in there:
            self._upload(staged / last, f"{key}/{last}")
        return last not in there or bool(missing)

    def touch(self, key: str, last: str) -> None:
        content = self.read(f"{key}/{last}")
        if content is not None:
            with telling(self.url, "write"):
                self._files.pipe_file(self._at(f"{key}/{last}"), content)

    def path(self, key: str) -> Path | None:
        return None

    def download(self, key: str, target: Path) -> None:
        with telling(self.url, "read"):
            self._files.get_file(self._at(key), os.fspath(target))
        make_read_only(target)

    def measure(self, key: str) -> Stored | None:
        found = self._below(key).values()
        if not found:
            return None
        return Stored(key, sum(size for size, _ in found), max(modified for _, modified in found))

    def leftovers(self) -> list[Stored]:
        """Uploads in parts that were begun on S3. The other clouds forget theirs after a week."""
        if not self._is_s3:
            return []
        bucket, _, prefix = self._root.partition("/")
        found: list[Stored] = []
        page: Mapping[str, Any] = {"IsTruncated": True}
        after: dict[str, str] = {}
        while page.get("IsTruncated"):
            with telling(self.url, "read"):
                page = self._files.call_s3(
                    "list_multipart_uploads",
                    Bucket=bucket,
                    Prefix=f"{prefix}/" if prefix else "",
                    **after,
                )
            for upload in page.get("Uploads", ()):
                key = upload["Key"].removeprefix(f"{prefix}/" if prefix else "")
                found.append(Stored(key, 0, upload["Initiated"], upload["UploadId"]))
            after = {
                "KeyMarker": page.get("NextKeyMarker") or "",
                "UploadIdMarker": page.get("NextUploadIdMarker") or "",
            }
        return found

    def remove(self, stored: Stored, is_used: Callable[[], bool]) -> bool:
        if is_used():
            return False
        with telling(self.url, "write"):
            try:
                if stored.upload:
                    bucket, _, key = self._at(stored.key).partition("/")
                    self._files.call_s3(
                        "abort_multipart_upload", Bucket=bucket, Key=key, UploadId=stored.upload
                    )
                else:
                    self._files.rm(self._at(stored.key), recursive=True)
            except FileNotFoundError:  # somebody else did
                pass
        return True

    def _at(self, key: str) -> str:
        return f"{self._root}/{key}" if key else self._root

    def _create(self, write: Callable[[], object]) -> bool:
        """Has the server create a key; whether it did."""
        for _ in range(_MAX_ATTEMPTS):
            try:
                write()
            except Exception as error:  # each cloud has errors of its own
                if creates_nothing(error):
                    return False
                if not is_conflict(error):
                    raise
            else:
                return True
        raise StoreError(f"others keep writing to {self.url}; try again")

    def _upload(self, path: Path, key: str) -> None:
        with telling(self.url, "write"):
            to = self._at(key)
            self._create(lambda: self._files.put_file(os.fspath(path), to, mode="create"))

    def _below(self, key: str) -> dict[str, tuple[int, datetime]]:
        """Returns size and time of each object at and below a key, by its name below it."""
        path = self._at(key)
        with telling(self.url, "read"):
            try:
                found = self._files.find(path, detail=True)
                if not isinstance(found, Mapping):  # adlfs, of a single file
                    found = {name: self._files.info(name) for name in found}
            except FileNotFoundError:
                return {}
        return {
            name.strip("/").removeprefix(path.strip("/")).lstrip("/"): (
                int(info["size"]),
                _modified(info),
            )
            for name, info in found.items()
            # A prefix under which something appears between two requests is called one.
            if info["type"] == "file"
        }

    def _list_s3(self, path: str) -> list[str]:
        """Lists as `ls` does, which asks up to four times where there is nothing."""
        bucket, _, prefix = path.partition("/")
        found: list[str] = []
        page: Mapping[str, Any] = {"IsTruncated": True}
        after: dict[str, str] = {}
        while page["IsTruncated"]:
            page = self._files.call_s3(
                "list_objects_v2",
                Bucket=bucket,
                Prefix=f"{prefix}/" if prefix else "",
                Delimiter="/",
                **after,
            )
            found += [f"{bucket}/{each['Key']}" for each in page.get("Contents", ())]
            found += [f"{bucket}/{each['Prefix']}" for each in page.get("CommonPrefixes", ())]
            after = {"ContinuationToken": page.get("NextContinuationToken", "")}
        return found

    def _is_below(self, name: str, path: str) -> bool:
        return name.strip("/").startswith(f"{path.strip('/')}/")

    def _bounded(self, key: str, content: bytes) -> bytes:
        if len(content) > MAX_READ_BYTES:
            raise StoreError(
                f"{self.url}/{key} has more than {MAX_READ_BYTES} bytes; nothing that a store "
                "reads whole has: restore it"
            )
        return content

    def _require_bucket(self) -> None:
        """Tells a key that is absent from a bucket that is."""
        bucket = self._root.partition("/")[0]
        self._has_bucket = self._has_bucket or self._files.exists(bucket)
        if not self._has_bucket and not self.url.startswith("memory:"):
            raise StoreError(
                f"there is no bucket {bucket!r} for the store {self.url}, or you may not see it; "
                "name another, or have it made"
            )

    def _require_same(self, key: str, staged: dict[str, int], there: dict[str, int]) -> None:
        for name in sorted(staged.keys() & there.keys()):
            # Of two signatures with one key, the one that is there stays.
            if staged[name] != there[name] and "/" not in name:
                raise StoreError(
                    f"{self.url}/{key}/{name} has {there[name]} bytes instead of {staged[name]}; "
                    "restore it, or remove it"
                )

    def _require_unchanged(self, staged: Path) -> None:
        for path, version in self._staged.items():
            # What the publisher has written anew since is another file.
            is_linked = path.is_relative_to(staged) and path.stat().st_ino == version[0]
            if is_linked and _version_of(path) != version:
                raise StoreError(f"{path.name} changed while it was stored; try again")


def _version_of(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _modified(info: Mapping[str, Any]) -> datetime:
    found = next(info[key] for key in _MODIFIED if info.get(key))
    if isinstance(found, float):
        return datetime.fromtimestamp(found, UTC)
    moment = datetime.fromisoformat(found) if isinstance(found, str) else found
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
