"""An operation's kernels as this build has compiled them, and what their metadata must say."""

import functools
import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from kernels import cubin_loader

Metadata = dict[str, Any]


def archs() -> tuple[int, ...]:
    """The compute capabilities that the cubins of this build are for; see triton_kernels.bzl."""
    return tuple(map(int, os.environ["HPC_GPU_ARCHS"].split()))


def is_sample() -> bool:
    """Whether this build need not have compiled more than a sample; see kernels/BUILD."""
    return len(archs()) == 1


def compiled(kernels: ModuleType) -> Sequence[Any]:
    """Of the VARIANTS of an operation those that this build has compiled in any case."""
    variants: Sequence[Any] = kernels.SAMPLE if is_sample() else kernels.VARIANTS
    return variants


@functools.cache
def by_name(kernels: ModuleType) -> dict[tuple[str, int], Metadata]:
    """The metadata of each cubin of an operation by (name, arch)."""
    directory = cubin_loader.directory(_package(kernels))
    return {(m["name"], m["arch"]): m for m in cubin_loader.metadata(directory)}


def agreeing(kernels: ModuleType, variant: Any, arch: int) -> Metadata:
    """Returns the metadata of a variant's cubin, having asserted that it is what its kernel is."""
    metadata = by_name(kernels)[variant.name, arch]
    wanted = [[name, kind.split(":")[0]] for name, kind in variant.signature.items()]
    assert metadata["parameters"] == wanted, variant.name
    assert metadata["constants"] == variant.constexprs, variant.name
    assert metadata["num_warps"] == variant.num_warps, variant.name
    image = (cubin_loader.directory(_package(kernels)) / metadata["file"]).read_bytes()
    assert image[:4] == b"\x7fELF"
    # The name of the entry point stands in the ELF's symbol table.
    assert f".text.{metadata['symbol']}\0".encode() in image
    return metadata


def _package(kernels: ModuleType) -> str:
    return kernels.__name__.rpartition(".")[0]
