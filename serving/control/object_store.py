"""Where a gateway's own Ray keeps its object store, through which no request passes."""

import shutil
from pathlib import Path

from serving.errors import StartError

# Ray's least is 75 MiB; its default would be a third of the machine's memory.
OBJECT_STORE_BYTES = 80 * 2**20

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  the kernel's place for it
_MIB = 2**20


def object_store(directory: Path, shared_memory: Path = SHARED_MEMORY) -> dict[str, object]:
    """Returns Ray's options for its store: in shared memory, or where a container has too little.

    Docker and podman give a container 64 MiB unless told otherwise.

    Args:
        directory: Of the gateway, taken if shared memory is too small.
        shared_memory: Where the system has it.

    Raises:
        StartError: Neither has room.
    """
    options: dict[str, object] = {"object_store_memory": OBJECT_STORE_BYTES}
    free, instead = _free_bytes(shared_memory), _free_bytes(directory)
    if free >= OBJECT_STORE_BYTES:
        return options
    if instead < OBJECT_STORE_BYTES:
        raise StartError(
            f"Ray needs {OBJECT_STORE_BYTES // _MIB} MiB: {shared_memory} has {free // _MIB} MiB "
            f"free, and {directory} {instead // _MIB}; give either more (of a container: "
            "--shm-size 128m, or --tmpfs /tmp:size=256m)"
        )
    return options | {"_plasma_directory": str(directory)}


def _free_bytes(place: Path) -> int:
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return 0
