"""Makes a release: `./bazelw run //infra/ci:release -- --version 1.2.3 --out DIRECTORY`.

The directory, which must not exist, gets for each image an archive that podman and docker load, its
inventory (SPDX) and its digest; NOTES.md, from the changelog; and SHA256SUMS of all of them. With
`--key` they are signed: SHA256SUMS.sig. With `--registry` the images are sent there, too.
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from base.files import new_directory
from base.interrupts import exit_when_interrupted
from base.program import EXIT_FAILED, PathError, directory_from_user, end_with_error, from_user
from infra.bazel.oci.bundle import name_of, write_bundle
from infra.bazel.oci.push import PushError
from infra.ci.publish import ARCHIVE, CHECKSUMS, PublishError, file_digest, publish
from registry.descriptor import SEMANTIC_VERSION
from registry.errors import TrustError
from registry.trust.signing import Signer

NOTES = "NOTES.md"
SIGNATURE = f"{CHECKSUMS}.sig"
CHANGELOG = "CHANGELOG.md"

_HEADING = "## "
_UNRELEASED = "Unreleased"


class ReleaseError(Exception):
    """The release cannot be made; the message says why."""


def notes(changelog: str, version: str) -> str:
    """Returns what a changelog says of a version, or else of what is not released yet.

    Args:
        changelog: In the form of Keep a Changelog: "## 1.2.3" or "## [1.2.3] - 2026-01-31" heads
            what a version brings, "## Unreleased" what the next one does.
        version: Which.

    Raises:
        ReleaseError: It says nothing of either.
    """
    sections: dict[str, str] = {}
    for part in f"\n{changelog}".split(f"\n{_HEADING}")[1:]:
        heading, _, text = part.partition("\n")
        name = heading.partition(" - ")[0].strip().strip("[]")
        sections[name] = text.strip()
    for name in (version, _UNRELEASED):
        if sections.get(name):
            return f"{sections[name]}\n"
    raise ReleaseError(
        f"{CHANGELOG} has nothing below '{_HEADING}{version}' or '{_HEADING}{_UNRELEASED}'; "
        "write there what the release brings"
    )


def make(
    layouts: Sequence[Path], version: str, changelog: str, target: Path, signer: Signer | None
) -> None:
    """Makes a release, whole or not at all.

    Args:
        layouts: Of images, as oci_image.bzl writes them: each with its inventory and its digest
            beside it.
        version: Of all of it.
        changelog: All of it.
        target: A folder that is made.
        signer: Who signs the checksums; None: nobody.

    Raises:
        ReleaseError: The version is none, the changelog says nothing of it, or the folder exists.
        OSError: It cannot be written.
    """
    if not SEMANTIC_VERSION.fullmatch(version) or "+" in version:
        raise ReleaseError(f"{version!r} is no version; expected one such as 1.2.3 or 1.2.3-rc.1")
    text = notes(changelog, version)
    if os.path.lexists(target):
        raise ReleaseError(f"{target} exists; a release is never changed, name another folder")
    with new_directory(target) as assembled:
        (assembled / NOTES).write_text(text)
        for layout in layouts:
            _add_image(layout, version, assembled)
        files = sorted(assembled.iterdir())
        sums = "".join(f"{file_digest(path)}  {path.name}\n" for path in files).encode()
        (assembled / CHECKSUMS).write_bytes(sums)
        if signer:
            signature = signer.key.sign(sums, ec.ECDSA(hashes.SHA256()))
            (assembled / SIGNATURE).write_bytes(signature)


def _add_image(layout: Path, version: str, folder: Path) -> None:
    name = name_of(layout)
    with (folder / f"{name}-{version}{ARCHIVE}").open("wb") as archive:
        write_bundle(layout, f"{name}:{version}", archive)
    for suffix, written in ((".spdx.json", ".spdx.json"), (".digest.txt", ".digest")):
        source = layout.with_name(f"{layout.name}{suffix}")
        shutil.copyfile(source, folder / f"{name}-{version}{written}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="release")
    parser.add_argument(
        "--image", type=Path, action="append", required=True, help=argparse.SUPPRESS
    )
    parser.add_argument("--changelog", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--version", required=True, help="a semantic version")
    parser.add_argument("--out", required=True, metavar="DIRECTORY", help="is made")
    parser.add_argument("--key", type=Path, help="a private key in PEM, which signs the checksums")
    parser.add_argument("--registry", metavar="HOST/NAMESPACE", help="where images are sent")
    parser.add_argument("--insecure", action="store_true", help="speak HTTP to the registry")
    return parser.parse_args()


def _main() -> None:
    options = _options()
    root = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", ""))
    try:
        target = directory_from_user(options.out, "--out is empty; name a folder to be made")
        signer = Signer.read(from_user(options.key)) if options.key else None
        changelog = (options.changelog or root / CHANGELOG).read_text()
        make(options.image, options.version, changelog, target, signer)
    except (PathError, ReleaseError, TrustError, OSError) as error:
        end_with_error(error)
    print(target, flush=True)
    if options.registry:
        try:
            for image in publish(target, options.registry, insecure=options.insecure):
                print(image, flush=True)
        except (PublishError, PushError) as error:
            end_with_error(
                f"{error} (the release is whole; python3 -m infra.ci.publish {target} "
                f"{options.registry}{' --insecure' * options.insecure} sends it again)",
                EXIT_FAILED,
            )


if __name__ == "__main__":
    with exit_when_interrupted("interrupted: no release was made, or not all of it was sent"):
        _main()
