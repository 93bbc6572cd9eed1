"""Compiles CUDA C++ kernels ahead of time to cubins, without a GPU.

    cuda_cubin.py --src kernels/attention/cuda.cu --arch 90a --out DIR

Each kernel is `extern "C"`, takes one struct and says how it is launched: its launch bounds are the
threads, and integers beside it, named after it, are constants for the launcher, of which
SHARED_BYTES, its dynamic shared memory, is needed:

    extern "C" __device__ const int scale__SHARED_BYTES = 1024;
    extern "C" __global__ void __launch_bounds__(128) scale(const __grid_constant__ Params params);

The output is one `<stem>.sm_<arch>.cubin` for each architecture and a `metadata.json` in the form
of triton_compile.py's. What ptxas warns of is an error. The same input gives the same bytes.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

METADATA_FILE = "metadata.json"
WARP_SIZE = 32

# What ptxas only mentions, yet makes a kernel several times slower.
PERFORMANCE_LOSS = re.compile(r"^.*(?:Potential Performance Loss|warning).*$", re.MULTILINE)


class CompileError(Exception):
    """The source cannot be compiled: says which part and why."""


class Arch(NamedTuple):
    """A compute capability times ten, and whether code may use what no other one has."""

    number: int
    specific: bool

    def __str__(self) -> str:
        return f"{self.number}{'a' if self.specific else ''}"


class Compiled(NamedTuple):
    """One cubin and what a launcher has to know of each of its kernels."""

    file_name: str
    cubin: bytes
    kernels: list[dict[str, Any]]


def main() -> int:
    """Returns 0, or 2 after printing what was wrong with the input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--src", type=Path, required=True, help="CUDA C++ file")
    parser.add_argument(
        "--arch", type=_arch, action="append", required=True, help="such as 90, or 90a"
    )
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument("--nvcc", default="nvcc", help="path of nvcc; ptxas is beside it")
    parser.add_argument("--option", action="append", default=[], help="for nvcc, such as -I.")
    args = parser.parse_args()
    try:
        compiled = [compile_source(args.src, arch, args.nvcc, args.option) for arch in args.arch]
        write(compiled, args.out)
    except (CompileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _arch(text: str) -> Arch:
    match = re.fullmatch(r"(\d+)(a?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"an architecture is such as 90 or 90a, got {text!r}")
    return Arch(int(match[1]), bool(match[2]))


def compile_source(source: Path, arch: Arch, nvcc: str, options: list[str]) -> Compiled:
    """Compiles one source for one architecture.

    Raises:
      CompileError: it does not compile, ptxas warns, or a kernel does not say how it is launched.
    """
    with tempfile.TemporaryDirectory(prefix="cuda_cubin_") as folder:
        ptx, cubin = Path(folder, "code.ptx"), Path(folder, "code.cubin")
        command = [nvcc, "-std=c++17", "-O3", "-ptx", f"-arch=compute_{arch}", *options]
        _run([*command, str(source), "-o", str(ptx)])
        ptxas = str(Path(nvcc).with_name("ptxas")) if os.path.dirname(nvcc) else "ptxas"
        log = _run([ptxas, "-v", f"-arch=sm_{arch}", str(ptx), "-o", str(cubin)])
        if lost := PERFORMANCE_LOSS.search(log):
            raise CompileError(f"{source}: {lost[0]}")
        file_name = f"{source.stem}.sm_{arch.number}.cubin"
        kernels = [
            {
                "name": name,
                "arch": arch.number,
                "arch_specific": arch.specific,
                "file": file_name,
                "symbol": name,
                "num_scratch_parameters": 0,
                **launch,
                **_resources(log, name),
            }
            for name, launch in _kernels(ptx.read_text()).items()
        ]
        return Compiled(file_name, cubin.read_bytes(), kernels)


def _run(command: list[str]) -> str:
    """Runs a compiler; returns all that it prints."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise CompileError(f"{command[0]} failed:\n{done.stdout}")
    return done.stdout


def _kernels(ptx: str) -> dict[str, dict[str, Any]]:
    """How each kernel in a PTX file is launched."""
    entry = re.compile(
        r"\.entry (?P<name>\w+)\(\s*"
        r"\.param \.align \d+ \.b8 \w+\[(?P<bytes>\d+)\]\s*\)\s*"
        r"\.maxntid (?P<threads>\d+)"
    )
    found = {match["name"]: match for match in entry.finditer(ptx)}
    if not found or len(found) != len(re.findall(r"^\.visible \.entry ", ptx, re.MULTILINE)):
        raise CompileError("each kernel must take one struct and have launch bounds")
    return {name: _launch(ptx, name, match) for name, match in found.items()}


def _launch(ptx: str, name: str, match: re.Match[str]) -> dict[str, Any]:
    values = re.findall(rf"\.global \.align 4 \.u32 {name}__(\w+)(?: = (\d+))?;", ptx)
    constants = {constant: int(value or 0) for constant, value in values}
    if "SHARED_BYTES" not in constants:
        raise CompileError(f"{name}: no constant {name}__SHARED_BYTES beside the kernel")
    return {
        "parameters": [["params", f"struct:{match['bytes']}"]],
        "num_warps": int(match["threads"]) // WARP_SIZE,
        "shared_bytes": constants.pop("SHARED_BYTES"),
        "constants": constants,
    }


def _resources(log: str, name: str) -> dict[str, int]:
    """Registers and spilled bytes per thread, from `ptxas -v`."""
    report = re.search(
        rf"Compiling entry function '{name}'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers",
        log,
        re.DOTALL,
    )
    if report is None:
        raise CompileError(f"ptxas does not report registers and spills of {name}:\n{log}")
    return {
        "registers": int(report[3]),
        "spill_store_bytes": int(report[1]),
        "spill_load_bytes": int(report[2]),
    }


def write(compiled: list[Compiled], directory: Path) -> None:
    """Writes the cubins and, last, the metadata."""
    directory.mkdir(parents=True, exist_ok=True)
    for item in compiled:
        (directory / item.file_name).write_bytes(item.cubin)
    kernels = [kernel for item in compiled for kernel in item.kernels]
    cubins = sorted(kernels, key=lambda m: (m["name"], m["arch"]))
    text = json.dumps({"cubins": cubins}, indent=2, sort_keys=True) + "\n"
    (directory / METADATA_FILE).write_bytes(text.encode())


if __name__ == "__main__":
    sys.exit(main())
