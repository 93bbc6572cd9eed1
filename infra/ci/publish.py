"""Sends the images of a release to a registry, from the root of the checkout.

    python3 -m infra.ci.publish DIRECTORY HOST/NAMESPACE

Checks the release's checksums first and the registry's digests afterwards, and prints a line for
each image: HOST/NAMESPACE/NAME@sha256:... The images are there as NAME:VERSION. Debian's skopeo
does it, with the credentials of podman or docker. Any Python from 3.11 on will do.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from base.interrupts import exit_when_interrupted
from infra.bazel.oci.bundle import read_description
from infra.bazel.oci.push import PushError, push

CHECKSUMS = "SHA256SUMS"
ARCHIVE = ".oci.tar"


class PublishError(Exception):
    """The release cannot be published; the message says why."""


def check(release: Path) -> None:
    """Compares the files of a release with its checksums.

    Raises:
        PublishError: It has none, or one of another file.
    """
    try:
        lines = (release / CHECKSUMS).read_text().splitlines()
    except OSError as error:
        raise PublishError(f"{release} is no release: {error}") from error
    for line in lines:
        expected, _, name = line.partition("  ")
        file = release / name
        if not file.is_file() or file_digest(file) != expected:
            raise PublishError(f"{file} is not what {CHECKSUMS} says; make the release again")


def file_digest(file: Path) -> str:
    """Returns the SHA-256 digest of a file, in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def publish(release: Path, registry: str, *, insecure: bool) -> Iterator[str]:
    """Sends every image of a release; yields "REGISTRY/NAME@sha256:..." of each.

    Args:
        release: The folder, as //infra/ci:release makes it.
        registry: "HOST/NAMESPACE".
        insecure: Whether HTTP will do.

    Raises:
        PublishError: The release was changed, or the registry has another image than it.
        PushError: skopeo has failed.
    """
    check(release)
    for archive in sorted(release.glob(f"*{ARCHIVE}")):
        tag, built = read_description(archive)
        digest = push(f"oci-archive:{archive.absolute()}", f"{registry}/{tag}", insecure=insecure)
        if digest != built:
            raise PublishError(f"{registry} has {tag} as {digest}, but {built} was built")
        yield f"{registry}/{tag.partition(':')[0]}@{digest}"


def _main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("release", type=Path, metavar="DIRECTORY", help="a release")
    parser.add_argument("registry", metavar="HOST/NAMESPACE")
    parser.add_argument("--insecure", action="store_true", help="speak HTTP")
    options = parser.parse_args()
    try:
        for image in publish(options.release, options.registry, insecure=options.insecure):
            print(image, flush=True)
    except (PublishError, PushError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    with exit_when_interrupted("interrupted: not all images were sent"):
        _main()
