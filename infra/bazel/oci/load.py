"""Hands an image to podman or docker: `./bazelw run //infra/images:serving.load`.

The engine is given the image on its stdin, as one archive.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from base.interrupts import exit_when_interrupted
from infra.bazel.oci.bundle import write_archive

ENGINES = ("podman", "docker")

# podman's own default: an image may be more than /tmp holds.
_TEMPORARY = "/var/tmp"  # noqa: S108


class LoadError(Exception):
    """The image cannot be loaded; the message says why."""


def load(layout: Path, tag: str, engine: str | None) -> str:
    """Loads an image; returns which engine has it.

    Raises:
        LoadError: There is no such engine, or it has refused the image.
    """
    found = next((one for one in ([engine] if engine else ENGINES) if shutil.which(one)), None)
    if found is None:
        wanted = engine or " nor ".join(ENGINES)
        raise LoadError(f"there is no {wanted} on PATH; Debian's package podman has one")
    # podman first puts the archive into a file, which it leaves when it is told to end.
    temporary = tempfile.TemporaryDirectory(
        prefix="load-", dir=os.environ.get("TMPDIR", _TEMPORARY), ignore_cleanup_errors=True
    )
    with temporary as folder:
        environment = os.environ | {"TMPDIR": folder}
        with subprocess.Popen([found, "load"], stdin=subprocess.PIPE, env=environment) as loading:
            assert loading.stdin is not None
            try:
                write_archive(layout, tag, loading.stdin)
                loading.stdin.close()
                loading.wait()
            except BrokenPipeError:
                pass  # It has ended, and its status says why.
            except BaseException:
                loading.kill()
                raise
    if loading.returncode:
        raise LoadError(f"{found} load failed with status {loading.returncode}")
    return found


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="load")
    parser.add_argument("--layout", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--name", required=True, help="what the image is called")
    parser.add_argument("--tag", default="latest", help="and its tag; default: %(default)s")
    parser.add_argument("--engine", choices=ENGINES, help="default: the first that there is")
    options = parser.parse_args()
    tag = f"{options.name}:{options.tag}"
    try:
        engine = load(options.layout, tag, options.engine)
    except LoadError as error:
        sys.exit(f"error: {error}")
    print(f"{engine} has {tag}")


if __name__ == "__main__":
    with exit_when_interrupted("interrupted: the image was not loaded"):
        _main()
