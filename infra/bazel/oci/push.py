"""Sends an image to a registry: `./bazelw run //infra/images:serving.push -- HOST/NAME:TAG`.

Debian's skopeo does it, with the credentials of podman or docker (`skopeo login HOST`).
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from base.interrupts import exit_when_interrupted

# How skopeo says why it ends.
_FATAL = re.compile(r' level=fatal msg=(?P<text>"(?:[^"\\]|\\.)*")')


class PushError(Exception):
    """The image cannot be sent; the message says why."""


def push(source: str, destination: str, *, insecure: bool) -> str:
    """Sends an image, every byte as it is, and asks the registry what it has then.

    Args:
        source: As skopeo names it: "oci:FOLDER" or "oci-archive:FILE", of one image.
        destination: "HOST/NAME:TAG".
        insecure: Whether HTTP will do.

    Returns:
        The digest by which the registry knows the image, "sha256:...".

    Raises:
        PushError: There is no skopeo, or it has failed.
    """
    verify = str(not insecure).lower()
    copy = ("copy", "--preserve-digests", f"--dest-tls-verify={verify}")
    _skopeo(*copy, source, f"docker://{destination}")
    inspect = ("inspect", f"--tls-verify={verify}", "--no-tags", "--format", "{{.Digest}}")
    return _skopeo(*inspect, f"docker://{destination}").strip()


def _skopeo(*arguments: str) -> str:
    program = shutil.which("skopeo")
    if program is None:
        raise PushError("there is no skopeo on PATH; Debian's package of that name has it")
    # A policy says from where images are taken, and none is taken here. Archives are unpacked, by
    # default in /var/tmp whatever $TMPDIR says.
    settings = ("--insecure-policy", "--tmpdir", tempfile.gettempdir())
    done = subprocess.run(
        [program, *settings, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        told = _FATAL.search(last)
        reason = json.loads(told["text"]) if told else last
        hint = "; --insecure speaks HTTP" if "HTTP response to HTTPS" in reason else ""
        raise PushError(f"skopeo {arguments[0]} failed: {reason}{hint}")
    return done.stdout


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="push")
    parser.add_argument("--layout", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    parser.add_argument("destination", help="HOST/NAME:TAG")
    parser.add_argument("--insecure", action="store_true", help="speak HTTP")
    options = parser.parse_args()
    try:
        digest = push(
            f"oci:{options.layout.resolve()}", options.destination, insecure=options.insecure
        )
    except PushError as error:
        sys.exit(f"error: {error}")
    print(f"{options.destination} {digest}")


if __name__ == "__main__":
    with exit_when_interrupted("interrupted: the registry may have layers of the image"):
        _main()
