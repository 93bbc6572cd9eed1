"""Compiles Triton kernels ahead of time, without a GPU.

    triton_compile.py --src kernels/attention/triton_kernels.py --arch 80 --arch 90 --out DIR

The source defines VARIANTS, a sequence of records with the fields

    name        name of the variant, unique for each architecture
    kernel      a function decorated with @triton.jit
    signature   {parameter: type} in launch order, such as {"x_ptr": "*bf16:16", "n": "i32"}; a
                number after the colon promises that the value is divisible by it
    constexprs  {parameter: value} for the rest of the parameters
    num_warps, num_stages
    archs       the compute capabilities that the record is for; without the field, all
    options     {name: value} of further compile options of Triton; without the field, none. The
                one that matters is enable_fp_fusion: with True, the default, a product and a sum
                may become one instruction, which rounds once

and imports nothing but Triton, the standard library and files of the repository, whose root is the
working directory. It may define SAMPLE, those of VARIANTS that --sample compiles: for a build whose
cubins are looked at and not run.

The output is one `<name>.sm_<arch>.cubin` for each variant and architecture and a `metadata.json`
that says all that a launcher needs. The same input gives the same bytes.
"""

import argparse
import concurrent.futures
import contextlib
import importlib.util
import io
import json
import multiprocessing
import os
import re
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

# Threads in a warp of every NVIDIA GPU.
WARP_SIZE = 32

METADATA_FILE = "metadata.json"


class CompileError(Exception):
    """The source cannot be compiled: says which part and why."""


class Compiled(NamedTuple):
    """One cubin and what a launcher has to know of it."""

    file_name: str
    cubin: bytes
    metadata: dict[str, Any]


def main() -> int:
    """Returns 0, or 2 after printing what was wrong with the input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--src", type=Path, required=True, help="Python file with VARIANTS")
    parser.add_argument(
        "--arch", type=int, action="append", required=True, help="compute capability, such as 90"
    )
    parser.add_argument("--sample", action="store_true", help="compile SAMPLE and not VARIANTS")
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    args = parser.parse_args()
    try:
        compiled = compile_all(args.src, sorted(set(args.arch)), args.jobs, sample=args.sample)
        write(compiled, args.out)
    except (CompileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def compile_all(
    source: Path, archs: list[int], jobs: int, *, sample: bool = False
) -> list[Compiled]:
    """Compiles each variant of a source, or of its sample, for each architecture.

    Raises:
      CompileError: the source has no VARIANTS, or one of them does not compile.
    """
    with tempfile.TemporaryDirectory(prefix="triton_compile_") as cache:
        os.environ["TRITON_CACHE_DIR"] = cache
        os.environ.pop("TRITON_INTERPRET", None)
        tasks = [
            (source, name, arch)
            for arch in archs
            for name in variant_names(source, arch, sample=sample)
        ]
        # Spawned: Triton starts threads, which do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
            return list(pool.map(_compile_task, tasks))


def variant_names(source: Path, arch: int, *, sample: bool = False) -> list[str]:
    """Returns the names in VARIANTS, or SAMPLE, of those for an architecture, in order.

    Raises:
      CompileError: the file cannot be loaded, has no VARIANTS, or a name occurs twice.
    """
    names = [variant.name for variant in _variants(source, arch, sample=sample)]
    if len(set(names)) != len(names):
        raise CompileError(f"{source}: names in VARIANTS must be unique")
    return names


def _variants(source: Path, arch: int, *, sample: bool = False) -> list[Any]:
    module = load(source)
    variants = getattr(module, "SAMPLE", module.VARIANTS) if sample else module.VARIANTS
    return [v for v in variants if arch in getattr(v, "archs", (arch,))]


def load(source: Path) -> ModuleType:
    """Executes a kernel source as a module of its own."""
    root = os.getcwd()
    if root not in sys.path:
        sys.path.append(root)  # Last: no file of the repository hides a module of Python's.
    if not source.is_file():
        raise CompileError(f"{source}: no such file")
    spec = importlib.util.spec_from_file_location(source.stem, source)
    if spec is None or spec.loader is None:
        raise CompileError(f"{source}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise CompileError(f"{source}: {type(error).__name__}: {error}") from error
    if not getattr(module, "VARIANTS", None):
        raise CompileError(f"{source}: must define VARIANTS, see {Path(__file__).name}")
    return module


def _compile_task(task: tuple[Path, str, int]) -> Compiled:
    source, name, arch = task
    variant = next(v for v in _variants(source, arch) if v.name == name)
    try:
        return compile_variant(variant, arch)
    except Exception as error:
        raise CompileError(f"{name} for sm_{arch}: {type(error).__name__}: {error}") from error


def compile_variant(variant: Any, arch: int) -> Compiled:
    """Compiles one variant for one architecture; see the top of the file for the record."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    triton.knobs.nvidia.dump_ptxas_log = True
    triton.knobs.compilation.disable_line_info = True  # Would hold paths of temporary files.
    types, attributes = _split_signature(variant)
    source = ASTSource(variant.kernel, types, variant.constexprs, attributes)
    options = {
        "num_warps": variant.num_warps,
        "num_stages": variant.num_stages,
        "enable_fp_fusion": True,
        **getattr(variant, "options", {}),
    }
    log = io.StringIO()
    with contextlib.redirect_stdout(log):
        kernel = triton.compile(source, target=GPUTarget("cuda", arch, WARP_SIZE), options=options)
    _check(variant, kernel)
    metadata = {
        "name": variant.name,
        "arch": arch,
        # Triton compiles for sm_90a, sm_100a, ...: features of one chip, not of its successors.
        "arch_specific": arch >= 90,
        "file": f"{variant.name}.sm_{arch}.cubin",
        "symbol": kernel.metadata.name,
        "parameters": [[name, kind] for name, kind in types.items() if kind != "constexpr"],
        # Null pointers that Triton's calling convention appends.
        "num_scratch_parameters": 2,
        "constants": dict(variant.constexprs),
        "num_warps": kernel.metadata.num_warps,
        "num_stages": variant.num_stages,
        "shared_bytes": kernel.metadata.shared,
        **_resources(log.getvalue()),
    }
    return Compiled(metadata["file"], kernel.asm["cubin"], metadata)


def _split_signature(variant: Any) -> tuple[dict[str, str], dict[tuple[int], list[list[Any]]]]:
    """Types of all parameters and Triton's attributes, from `*bf16:16` and the like."""
    types, attributes = {}, {}
    for index, name in enumerate(variant.kernel.arg_names):
        kind, _, divisor = variant.signature.get(name, "constexpr").partition(":")
        types[name] = kind
        if divisor:
            attributes[(index,)] = [["tt.divisibility", int(divisor)]]
    return types, attributes


def _check(variant: Any, kernel: Any) -> None:
    """Refuses what the launcher cannot launch."""
    for what in ("global_scratch_size", "profile_scratch_size"):
        if getattr(kernel.metadata, what, 0):
            raise CompileError(
                f"{variant.name} needs scratch memory ({what}), which is unsupported"
            )
    if kernel.metadata.num_ctas != 1:
        raise CompileError(f"{variant.name} needs clusters, which are unsupported")


def _resources(ptxas_log: str) -> dict[str, int]:
    """Registers and spilled bytes per thread, from `ptxas -v`."""
    registers = re.search(r"Used (\d+) registers", ptxas_log)
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", ptxas_log)
    if registers is None or spills is None:
        raise CompileError(f"ptxas does not report registers and spills:\n{ptxas_log}")
    return {
        "registers": int(registers[1]),
        "spill_store_bytes": int(spills[1]),
        "spill_load_bytes": int(spills[2]),
    }


def write(compiled: list[Compiled], directory: Path) -> None:
    """Writes the cubins and, last, the metadata."""
    directory.mkdir(parents=True, exist_ok=True)
    for item in compiled:
        (directory / item.file_name).write_bytes(item.cubin)
    cubins = sorted((item.metadata for item in compiled), key=lambda m: (m["name"], m["arch"]))
    text = json.dumps({"cubins": cubins}, indent=2, sort_keys=True) + "\n"
    (directory / METADATA_FILE).write_bytes(text.encode())


if __name__ == "__main__":
    sys.exit(main())
