"""Joins a Ray cluster that others run, of which this machine is a part."""

import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

import ray

from serving.control.addresses import AUTO, check_ray_address
from serving.errors import StartError

# Where `ray start` writes what it has started last. Ray itself also looks for processes that could
# be a Ray, and would find the private one of another gateway.
CURRENT_CLUSTER = Path("/tmp/ray/ray_current_cluster")  # noqa: S108  Ray's choice

# For a machine that is far away, and not for one that is gone.
_CONNECT_S = 5.0


def find_cluster(
    ray_address: str,
    environ: Mapping[str, str] = os.environ,
    current_cluster: Path = CURRENT_CLUSTER,
) -> str:
    """Returns HOST:PORT of a cluster's head at which somebody listens.

    Args:
        ray_address: As `check_ray_address` accepts it, but not of a private Ray.
        environ: Has RAY_ADDRESS, which is what "auto" means, if it is set.
        current_cluster: The file that `ray start` writes.

    Raises:
        StartError: There is none.
    """
    address = ray_address
    if ray_address == AUTO:
        address = environ.get("RAY_ADDRESS") or _read(current_cluster)
        try:
            check_ray_address(address)
        except ValueError as error:
            raise StartError(f"the address of the Ray that runs here: {error}") from error
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise StartError(
            f"nobody listens at {address}, where the head of the Ray to join would be ({error})"
        ) from error
    return address


def places(node: str) -> Mapping[str, tuple[str, int]]:
    """Returns where the head of the cluster that was joined listens, and this machine's raylet.

    Args:
        node: This machine, as Ray knows it.
    """
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    (ours,) = (known for known in ray.nodes() if known["NodeID"] == node)
    return {
        "head (gcs_server)": (host.strip("[]"), int(port)),
        "raylet": (ours["NodeManagerAddress"], ours["NodeManagerPort"]),
    }


def _read(current_cluster: Path) -> str:
    """What `ray start` has written; the token goes to that address, so not just anybody's word."""
    try:
        found = current_cluster.stat()
        if found.st_uid in (0, os.geteuid()) and not found.st_mode & stat.S_IWOTH:
            return current_cluster.read_text().strip()
    except OSError as error:
        raise StartError(
            f"no Ray runs on this machine that `ray start` has started, as {current_cluster} says; "
            "name its head as HOST:PORT"
        ) from error
    raise StartError(
        f"{current_cluster} may be written by others, who could have the token sent to themselves; "
        "name the head of the Ray to join as HOST:PORT"
    )
