"""What of an environment an image has: by the metadata of distributions made for these tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from infra.bazel.oci.distributions import (
    closure,
    environment_entries,
    extras_of,
    top_levels,
)

MODULES: Mapping[str, Sequence[str]] = {
    "web_server": ["web"],
    "routing": ["routing"],
    "numbers": ["numbers"],
    "cloud_a": ["cloud.a"],
    "cloud_b": ["cloud.b"],
    "single": ["single"],
}


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    needs = {
        "web_server-1.0": [
            "Routing>=1",
            'numbers; extra == "fast"',
            'nothing; python_version < "3"',
        ],
        "routing-1.0": ["web-server"],  # a circle
        "numbers-2.0": [],
        "cloud_a-1.0": [],
        "cloud_b-1.0": [],
        "single-1.0": [],
    }
    for name, requirements in needs.items():
        lines = [f"Name: {name.partition('-')[0]}", *(f"Requires-Dist: {r}" for r in requirements)]
        write(tmp_path / f"{name}.dist-info/METADATA", "\n".join(lines) + "\n\nRequires-Dist: no\n")
    for name in (
        "web/__init__.py",
        "web/include/header.h",
        "routing/__init__.py",
        "numbers/__init__.py",
        "numbers.libs/libnumbers.so",
        "cloud/a/__init__.py",
        "cloud/b/__init__.py",
        "single.py",
        "numbers/__pycache__/__init__.cpython-311.pyc",
        "__pycache__/single.cpython-311.pyc",
    ):
        write(tmp_path / name, name)
    return tmp_path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def paths(
    site_packages: Path,
    wanted: Sequence[str],
    excluded: Sequence[str] = (),
    shared: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> set[str]:
    owners = top_levels(site_packages, MODULES, shared)
    entries = environment_entries(site_packages, owners, wanted, "opt", excluded, shared)
    return {entry.path for entry in entries if "dist-info" not in entry.path}


def test_a_closure_follows_requirements_that_hold(site_packages: Path) -> None:
    assert closure(site_packages, ["web_server"], {}) == {"web_server", "routing"}
    extras = {"web_server": ["fast"]}
    assert closure(site_packages, ["Web.Server"], extras) == {"web_server", "routing", "numbers"}


def test_what_is_needed_and_not_there_is_named(site_packages: Path) -> None:
    write(site_packages / "broken-1.0.dist-info/METADATA", "Requires-Dist: gone\n")
    with pytest.raises(ValueError, match="gone, which broken needs, is not installed"):
        closure(site_packages, ["broken"], {})
    with pytest.raises(ValueError, match="typo, which a program needs, is not installed"):
        closure(site_packages, ["typo"], {})


def test_extras_are_read_from_requirements() -> None:
    text = "# comment\nnumpy\nray[serve]==2.60.0\nmoto[s3, ec2]==5\n"
    assert extras_of(text) == {"ray": {"serve"}, "moto": {"s3", "ec2"}}


def test_a_distribution_comes_with_its_libraries_and_no_bytecode(
    site_packages: Path,
) -> None:
    assert paths(site_packages, ["numbers"]) == {
        "opt/numbers/__init__.py",
        "opt/numbers.libs/libnumbers.so",
    }
    assert paths(site_packages, ["single"]) == {"opt/single.py"}


def test_a_namespace_comes_whole_and_once(site_packages: Path) -> None:
    whole = {"opt/cloud/a/__init__.py", "opt/cloud/b/__init__.py"}
    assert paths(site_packages, ["cloud_a"]) == whole
    assert paths(site_packages, ["cloud_b"]) == whole
    assert paths(site_packages, ["cloud_a", "cloud_b"]) == whole


def test_a_folder_whose_files_owners_are_known_is_divided(site_packages: Path) -> None:
    """Also among those that bring no module, as libraries of NVIDIA's do."""
    for name in ("libblas.so.13", "libfft.so.12", "libboth.so.1"):
        write(site_packages / f"cuda/lib/{name}", name)
    shared = {
        "cuda/lib/libblas.so.13": ["blas"],
        "cuda/lib/libfft.so.12": ["fft"],
        "cuda/lib/libboth.so.1": ["blas", "fft"],
    }
    both = "opt/cuda/lib/libboth.so.1"
    blas = paths(site_packages, ["blas"], shared=shared)
    assert blas == {"opt/cuda/lib/libblas.so.13", both}
    assert paths(site_packages, ["fft"], shared=shared) == {"opt/cuda/lib/libfft.so.12", both}
    assert paths(site_packages, ["single"], shared=shared) == {"opt/single.py"}


def test_what_is_excluded_is_left_out(site_packages: Path) -> None:
    assert paths(site_packages, ["web_server"], ["*/include/*"]) == {"opt/web/__init__.py"}
