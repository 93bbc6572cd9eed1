"""The Dockerfile, built by podman from nothing but a Debian, has the files of Bazel's image.

It takes many minutes, gigabytes and the network: packages of Debian and of Python are fetched anew.
What a machine needs beside, such as volumes with packages, is in $HPC_DOCKERFILE_OPTIONS as options
of `podman build`.
"""

import hashlib
import json
import os
import shlex
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from infra.images.testing.podman import Podman, give_up, storage

FILE = Path("infra/images/Dockerfile")
LAYOUT = Path("infra/images/serving")
BASE = "localhost/debian:12-slim"
IMAGE = "localhost/hpc-serving"

# What a slow machine takes.
BUILD_S = 3000.0

# Authorities that only this machine knows, without which it may reach nobody.
AUTHORITIES = "/usr/local/share/ca-certificates"


class File(NamedTuple):
    """What makes a file what it is; `content` is a digest, or where a link leads."""

    mode: int
    owner: tuple[int, int]
    content: str


def of_layers(layout: Path) -> dict[str, File]:
    """All that is in Bazel's image."""
    index = json.loads((layout / "index.json").read_bytes())
    manifest = json.loads(blob(layout, index["manifests"][0]).read_bytes())
    found = {}
    for layer in manifest["layers"]:
        with tarfile.open(blob(layout, layer)) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                text = hashlib.sha256(content.read()).hexdigest() if content else member.linkname
                found[member.name] = File(member.mode, (member.uid, member.gid), text)
    return found


def of_folder(root: Path) -> dict[str, File]:
    """All that is in a folder."""
    found = {}
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder, name)
            status = path.lstat()
            content = ""
            if stat.S_ISLNK(status.st_mode):
                content = str(path.readlink())
            elif stat.S_ISREG(status.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            owner = (status.st_uid, status.st_gid)
            mode = stat.S_IMODE(status.st_mode)
            found[str(path.relative_to(root))] = File(mode, owner, content)
    return found


def blob(layout: Path, descriptor: dict[str, Any]) -> Path:
    return layout / "blobs" / descriptor["digest"].replace(":", "/")


@pytest.fixture(scope="module")
def engine() -> Iterator[Podman]:
    """A podman with a Debian, in the machine's network, and without any container."""
    for program in ("podman", "mmdebstrap", "runc"):
        if not shutil.which(program):
            give_up(f"no {program}; Debian's package of that name has it")
    with storage() as engine:
        debian = engine.folder / "debian.tar"
        bootstrap(debian)
        engine("import", "--quiet", debian, BASE)
        yield engine


def bootstrap(target: Path) -> None:
    """Makes a root file system of a small Debian 12 from where this machine has its packages."""
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates"]
    if Path(AUTHORITIES).is_dir():
        command += [f"--customize-hook=sync-in {AUTHORITIES} {AUTHORITIES}"]
        command += ['--customize-hook=chroot "$1" update-ca-certificates']
    command += ["bookworm", str(target), "/etc/apt/sources.list.d/debian.sources"]
    subprocess.run(command, check=True, capture_output=True)


def test_it_builds_the_image_that_bazel_builds(engine: Podman) -> None:
    building = engine.start(
        *("build", "--format", "docker", "--isolation", "chroot", "--network", "host"),
        *("--build-arg", f"DEBIAN={BASE}", "--build-arg", "IMAGE=serving"),
        *shlex.split(os.environ.get("HPC_DOCKERFILE_OPTIONS", "")),
        *("--file", FILE.resolve(), "--tag", IMAGE, FILE.resolve().parents[2]),
    )
    stdout, stderr = building.communicate(timeout=BUILD_S)
    assert building.returncode == 0, (stdout + stderr)[-5000:]

    (inspected,) = json.loads(engine("image", "inspect", IMAGE))
    assert inspected["Config"]["User"] == "10001:10001"
    assert inspected["Config"]["Entrypoint"] == ["python3", "-m", "infra.images.serving_main"]
    found = of_folder(Path(engine("image", "mount", IMAGE)))
    expected = of_layers(LAYOUT)
    assert [name for name in found if name not in expected] == []
    assert [name for name, file in expected.items() if found.get(name) != file] == []
