r"""What the cubins of attention take of a GPU, in cubin_resources.json, so that a change shows.

    python -m kernels.attention.cubin_resources \
        --cubins DIR --write kernels/attention/cubin_resources.json

DIR is the output of infra/bazel/triton_compile.py or of //kernels/attention:triton_cubins.
attention_triton_cubins_test.py fails where a cubin spills more than the file says.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

from base.files import write_file
from base.program import end_with_error, from_user

METADATA_FILE = "metadata.json"


class Resources(NamedTuple):
    """Of one cubin: registers and spilled bytes of a thread, shared memory of a block."""

    registers: int
    spill_bytes: int
    shared_bytes: int


# Name -> architecture, such as "90" -> resources.
Table = dict[str, dict[str, Resources]]


def main() -> None:
    """Writes the table that the options ask for, or ends the program with what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cubins", type=Path, required=True, help="directory with metadata.json")
    parser.add_argument("--write", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    try:
        metadata = json.loads((from_user(args.cubins) / METADATA_FILE).read_text())
        write(from_metadata(metadata["cubins"]), from_user(args.write))
    except (OSError, ValueError, KeyError) as error:
        end_with_error(f"{type(error).__name__}: {error}")


def from_metadata(cubins: list[dict[str, Any]]) -> Table:
    """Returns what metadata.json says; see triton_compile.py."""
    table: Table = {}
    for cubin in cubins:
        table.setdefault(cubin["name"], {})[str(cubin["arch"])] = Resources(
            cubin["registers"],
            cubin["spill_store_bytes"] + cubin["spill_load_bytes"],
            cubin["shared_bytes"],
        )
    return table


def read(path: Path) -> Table:
    """Reads a file that `write` wrote."""
    return {
        name: {arch: Resources(**resources) for arch, resources in archs.items()}
        for name, archs in json.loads(path.read_text()).items()
    }


def write(table: Table, path: Path) -> None:
    """Writes a table, one line for each cubin."""
    blocks = []
    for name, archs in sorted(table.items()):
        lines = [
            f"    {json.dumps(arch)}: {json.dumps(resources._asdict())}"
            for arch, resources in sorted(archs.items(), key=lambda item: int(item[0]))
        ]
        blocks.append(f"  {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n  }")
    write_file(path, ("{\n" + ",\n".join(blocks) + "\n}\n").encode())


if __name__ == "__main__":
    main()
