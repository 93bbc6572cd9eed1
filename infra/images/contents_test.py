"""What is in the images, read from their layers: no compiler, no package manager, no secret."""

import re
from pathlib import Path

import pytest

from infra.images.testing.layouts import config, layers, manifest, members, members_of

IMAGES = [Path(f"infra/images/{name}") for name in ("serving", "train")]
# Programs of Debian's, without Python.
SERVICES = [Path(f"infra/images/{name}") for name in ("balancer", "prometheus", "redis")]

# Programs by which somebody who broke in would get further, and what would be built with.
UNWANTED = re.compile(
    r"(^|/)(apt|apt-get|dpkg|pip3?|gcc|g\+\+|cc1(plus)?|ld|as|make|ninja|nvcc|git|curl|wget|ssh|su"
    r"|sudo|mount|passwd|nc|perl|gdb)$"
)
INTERPRETER = re.compile(r"(^|/)(sh|bash|dash|busybox|mawk|perl|python3[.0-9]*)$")
SECRET = re.compile(r"(\.(key|p12|pfx|jks|kdbx)|id_(rsa|ed25519)|\.netrc|\.pypirc|\.git)$")


@pytest.mark.parametrize("layout", [*IMAGES, *SERVICES], ids=lambda layout: layout.name)
def test_there_is_nothing_that_no_program_needs(layout: Path) -> None:
    found = list(members(layout))
    names = [member.name for member in found]
    assert len(names) > (10_000 if layout in IMAGES else 100)
    programs = [one.name for one in found if not one.isdir() and (one.issym() or one.mode & 0o111)]
    assert [name for name in programs if UNWANTED.search(name)] == []
    assert [name for name in names if SECRET.search(name)] == []
    assert [name for name in names if name.endswith((".a", ".pyi", ".pyx", ".deb"))] == []


@pytest.mark.parametrize("layout", [*IMAGES, *SERVICES], ids=lambda layout: layout.name)
def test_all_of_it_is_roots_and_none_of_it_gives_rights(layout: Path) -> None:
    for member in members(layout):
        assert (member.uid, member.gid, member.mtime) == (0, 0, 0), member.name
        assert not member.mode & 0o6000, member.name
        assert member.issym() or not member.mode & 0o022 or member.mode & 0o1000, member.name


@pytest.mark.parametrize(("name", "folder"), [("train", "output"), ("prometheus", "prometheus")])
def test_anyone_may_write_where_a_volume_is_mounted(name: str, folder: str) -> None:
    """Docker makes a new volume like the folder that it hides."""
    (member,) = (one for one in members(Path("infra/images") / name) if one.name == folder)
    assert member.isdir()
    assert member.mode == 0o1777


@pytest.mark.parametrize("layout", [*IMAGES, *SERVICES], ids=lambda layout: layout.name)
def test_no_path_is_in_two_layers(layout: Path) -> None:
    files = [member.name for member in members(layout) if not member.isdir()]
    assert len(files) == len(set(files))


@pytest.mark.parametrize("layout", IMAGES, ids=lambda layout: layout.name)
def test_it_runs_as_nobody_in_exec_form(layout: Path) -> None:
    settings = config(layout)["config"]
    assert settings["User"] == "10001:10001"
    assert settings["Entrypoint"][0] == "python3"
    assert settings["Labels"]["org.opencontainers.image.licenses"] == "MIT"
    assert not [text for text in settings["Env"] if "/root" in text or "execroot" in text]


@pytest.mark.parametrize("layout", SERVICES, ids=lambda layout: layout.name)
def test_a_service_is_its_program_alone(layout: Path) -> None:
    settings = config(layout)["config"]
    names = {member.name for member in members(layout)}
    assert settings["User"] == "10001:10001"
    assert names & {f"usr/{place}/{settings['Entrypoint'][0]}" for place in ("bin", "sbin")}
    assert [name for name in names if INTERPRETER.search(name)] == []


def test_images_share_what_is_large() -> None:
    serving, train = ({layer["digest"] for layer in manifest(one)["layers"]} for one in IMAGES)
    assert len(serving & train) >= 3


@pytest.mark.parametrize("layout", IMAGES, ids=lambda layout: layout.name)
def test_a_change_of_a_source_sends_sources_alone(layout: Path) -> None:
    assert manifest(layout)["layers"][-1]["size"] < 2 * 2**20
    *_, kernels, application = layers(layout)
    assert [one.name for one in members_of(application) if one.name.endswith((".so", ".npz"))] == []
    assert [one.name for one in members_of(kernels) if one.name.endswith(".so")]


@pytest.mark.parametrize("layout", IMAGES, ids=lambda layout: layout.name)
def test_its_programs_are_started_by_python(layout: Path) -> None:
    *_, application = layers(layout)
    files = [one for one in members_of(application) if one.isfile()]
    assert [one.name for one in files if one.mode & 0o111 and Path(one.name).suffix != ".py"] == []
