"""What is in the images for GPUs, read from their layers; no GPU is needed.

`./bazelw test --config=cuda --test_tag_filters= //infra/images:gpu_contents_test`, since only that
configuration makes them.
"""

import json
import os
import posixpath
import re
import struct
import tarfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.images.testing.elf import Wants, wants
from infra.images.testing.layouts import config, layers

IMAGES = [Path(f"infra/images/{name}") for name in ("serving", "train")]

APPLICATION = "opt/app/hpc"
ENVIRONMENT = "opt/app/pip/site-packages"
CUDA = f"{ENVIRONMENT}/nvidia/cu13"
SYSTEM = ("usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64")

# Where the libraries are of PyTorch, JAX, NVIDIA and our own.
LIBRARIES = re.compile(
    rf"({ENVIRONMENT}/(torch|functorch|jaxlib|jax_cuda13_plugin|jax_plugins|nvidia|cuda)|{APPLICATION})/"
)
# What the driver of a machine with GPUs brings along, and the container toolkit puts in.
OF_THE_DRIVER = re.compile(r"libcuda\.so\.1|libnvidia-[a-z0-9-]+\.so\.1")

# What PyTorch, JAX and libraries of NVIDIA's open by name when they are first used.
OPENED = (
    *(f"{CUDA}/lib/{name}" for name in ("libcudart.so.13", "libcupti.so.13", "libcufile.so.0")),
    *(f"{CUDA}/lib/{name}" for name in ("libnvrtc.so.13", "libnvrtc-builtins.so.13.0")),
    *(f"{CUDA}/lib/{name}" for name in ("libcublas.so.13", "libcublasLt.so.13")),
    *(f"{CUDA}/lib/{name}" for name in ("libcufft.so.12", "libcurand.so.10")),
    *(f"{CUDA}/lib/{name}" for name in ("libcusolver.so.12", "libcusparse.so.12")),
    f"{CUDA}/lib/libnvJitLink.so.13",
    f"{ENVIRONMENT}/nvidia/cusparselt/lib/libcusparseLt.so.0",
    f"{ENVIRONMENT}/nvidia/nccl/lib/libnccl.so.2",
    f"{ENVIRONMENT}/nvidia/nvshmem/lib/libnvshmem_host.so.3",
    *(
        f"{ENVIRONMENT}/nvidia/cudnn/lib/libcudnn{part}.so.9"
        for part in (
            *("", "_adv", "_cnn", "_engines_precompiled", "_engines_runtime_compiled"),
            *("_graph", "_heuristic", "_ops"),
        )
    ),
    f"{ENVIRONMENT}/jax_plugins/xla_cuda13/xla_cuda_plugin.so",
)
# What XLA runs to make code of what it has compiled, and links into that.
XLA_PROGRAMS = (f"{CUDA}/bin/ptxas", f"{CUDA}/bin/nvlink")
XLA_LIBRARY = f"{CUDA}/nvvm/libdevice/libdevice.10.bc"

# Of CUDA and Triton, by which one would compile more than that.
COMPILERS = re.compile(
    r"(/(nvcc|cicc|cudafe\+\+|fatbinary|bin2c|nvcc\.profile)$|libnvvm\.so|/nvidia/.*/include/"
    r"|\.(a|h|hpp|cuh|cu)$|site-packages/triton/)"
)

# With kernels for GPUs, of what networks compute and of what trains them.
OPERATIONS = {
    "serving": {"attention", "linear_attention"},
    "train": {"attention", "linear_attention", "optimizer_step", "quantize"},
}

EM_CUDA = 190
_MACHINE_AT = 18

ARCHITECTURES = frozenset(map(int, os.environ["HPC_GPU_ARCHS"].split()))


class File(NamedTuple):
    """A file of an image.

    Attributes:
        mode: Of access.
        wants: What it wants of the loader; None: it is no program or library.
        text: Of those few that tests read.
    """

    mode: int
    wants: Wants | None
    text: str


@cache
def files_of(archive: Path) -> Mapping[str, File]:
    """The files of a layer: all are read once, in their order, since they are gigabytes."""
    found = {}
    with tarfile.open(archive, "r|gz") as layer:
        for member in layer:
            if member.isdir():
                continue
            content = b"" if member.issym() else contents(layer, member)
            is_text = member.name.endswith(("/metadata.json", "/version.py"))
            found[member.name] = File(
                member.mode, wants(content), content.decode() if is_text else ""
            )
            if member.name.endswith(".cubin"):
                (machine,) = struct.unpack_from("<H", content, _MACHINE_AT)
                assert machine == EM_CUDA, member.name
    return found


def contents(layer: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = layer.extractfile(member)
    assert file is not None
    return file.read()


def files(layout: Path) -> dict[str, File]:
    return {name: file for layer in layers(layout) for name, file in files_of(layer).items()}


@pytest.fixture(params=IMAGES, ids=lambda layout: layout.name)
def layout(request: pytest.FixtureRequest) -> Path:
    found = Path(request.param)
    if "hpc.cuda.version" not in config(found)["config"]["Labels"]:
        pytest.fail("an image without CUDA; this test is run with --config=cuda")
    return found


def assigned(text: str, name: str) -> str:
    match = re.search(rf"^{name}(?:: [^=]*)? = '([^']*)'", text, flags=re.MULTILINE)
    assert match, name
    return match[1]


def test_it_says_what_it_is_and_asks_for_gpus(layout: Path) -> None:
    settings = config(layout)["config"]
    labels = settings["Labels"]
    version = labels["hpc.cuda.version"]
    assert labels["org.opencontainers.image.title"] == f"hpc-{layout.name}-cuda13"
    assert settings["User"] == "10001:10001"
    assert {
        "NVIDIA_VISIBLE_DEVICES=all",
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        f"NVIDIA_REQUIRE_CUDA=cuda>={version}",
    } <= set(settings["Env"])
    torch = files(layout)[f"{ENVIRONMENT}/torch/version.py"].text
    assert assigned(torch, "cuda") == version
    assert assigned(torch, "__version__").endswith(f"+cu{version.replace('.', '')}")


def test_jax_and_its_plugin_are_of_one_version(layout: Path) -> None:
    found = files(layout)
    names = ("jax", "jaxlib", "jax_cuda13_plugin", "jax_cuda13_pjrt")
    pattern = re.compile(rf"{ENVIRONMENT}/({'|'.join(names)})-([0-9.]+)\.dist-info/METADATA")
    versions = {match[1]: match[2] for name in found if (match := pattern.fullmatch(name))}
    assert versions.keys() == set(names)
    assert len(set(versions.values())) == 1


def unresolved(found: Mapping[str, File]) -> Iterator[tuple[str, str]]:
    """Libraries, and of what they need what the loader would not find."""
    for path, file in found.items():
        if not file.wants or not LIBRARIES.match(path):
            continue
        folders = [
            posixpath.normpath(one.replace("$ORIGIN", f"/{posixpath.dirname(path)}")).lstrip("/")
            for one in (text.replace("${ORIGIN}", "$ORIGIN") for text in file.wants.paths)
        ]
        if path.startswith(f"{APPLICATION}/"):
            folders.append(f"{ENVIRONMENT}/torch/lib")  # who loads them has imported torch
        for name in file.wants.needed:
            places = (f"{folder}/{name}" for folder in (*folders, *SYSTEM))
            if not OF_THE_DRIVER.fullmatch(name) and not any(place in found for place in places):
                yield path, name


def test_every_library_finds_what_it_needs(layout: Path) -> None:
    found = files(layout)
    checked = [path for path, file in found.items() if file.wants and LIBRARIES.match(path)]
    assert len(checked) > 100
    assert sorted(unresolved(found)) == []


def test_what_is_opened_when_it_is_used_is_there(layout: Path) -> None:
    found = files(layout)
    assert [path for path in (*OPENED, *XLA_PROGRAMS, XLA_LIBRARY) if path not in found] == []
    assert all(found[path].mode & 0o111 for path in XLA_PROGRAMS)


def test_there_is_no_other_compiler(layout: Path) -> None:
    cuda = [name for name in files(layout) if "/nvidia/" in name or "triton" in name]
    assert len(cuda) > 50
    assert [name for name in cuda if COMPILERS.search(name)] == []


def test_kernels_are_compiled_for_every_architecture(layout: Path) -> None:
    found = files(layout)
    pattern = re.compile(rf"({APPLICATION}/kernels/(\w+)/triton_cubins)/metadata\.json")
    operations = {match[2]: match[1] for name in found if (match := pattern.fullmatch(name))}
    assert operations.keys() == OPERATIONS[layout.name]
    for folder in operations.values():
        cubins = json.loads(found[f"{folder}/metadata.json"].text)["cubins"]
        assert {cubin["arch"] for cubin in cubins} == ARCHITECTURES
        assert [one["file"] for one in cubins if f"{folder}/{one['file']}" not in found] == []
    assert f"{APPLICATION}/kernels/attention/cuda_cubins/metadata.json" in found
