"""Joins torch's process group: alone, or as one of several processes of this machine."""

import os
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import distributed

from train.config.schema import ConfigError
from train.launch.launched import Launched

Value = TypeVar("Value")


def check_devices(world_size: int) -> None:
    """Checks that each of `world_size` ranks finds a device on this machine.

    Raises:
        ConfigError: There are too few GPUs.
    """
    num_gpus = torch.cuda.device_count()
    if num_gpus and world_size > num_gpus:
        raise ConfigError(
            f"--nproc {world_size}: this machine has GPUs, but only {num_gpus}, and each rank "
            "takes one; start fewer, or train on the CPU with CUDA_VISIBLE_DEVICES= (empty)"
        )


def join_alone() -> None:
    """Joins a world of this process only, if it has not joined one."""
    if not distributed.is_initialized():
        # An in-memory store needs no port.
        _join(distributed.HashStore(), rank=0, world_size=1)


def join(rank: int, world_size: int, meeting_point: Path) -> None:
    """Joins the world whose ranks find each other through a file that none of them has yet made."""
    # A TCPStore would ask the name of every address that connects, which may take a timeout.
    _join(distributed.FileStore(str(meeting_point), world_size), rank, world_size)


def join_launched(place: Launched) -> None:
    """Joins the world that a launcher made, whose ranks find each other as it has told them."""
    if torch.cuda.is_available():
        torch.cuda.set_device(place.local_rank)
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def _join(store: distributed.Store, rank: int, world_size: int) -> None:
    os.environ["LOCAL_RANK"] = str(rank)  # DeepSpeed insists on it
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # it would look up this machine's name
    if torch.cuda.is_available():
        torch.cuda.set_device(rank)
        backend = "nccl"
    else:
        backend = "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=world_size)


def mean_over_ranks(values: np.ndarray, device: torch.device) -> np.ndarray:
    """Returns the mean of every rank's float64 `values`, the same on all; collective."""
    total = torch.tensor(values, device=device)  # a copy, in which the sum is made
    distributed.all_reduce(total)
    return total.cpu().numpy() / distributed.get_world_size()


def of_first_rank(value: int) -> int:
    """Returns what the first rank gave, an integer of 64 bits; collective."""
    if distributed.get_world_size() == 1:
        return value
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    given = torch.tensor(value, dtype=torch.int64, device=device)
    distributed.broadcast(given, src=0)
    return int(given)


def object_of_first_rank(value: Value) -> Value:
    """Returns what the first rank gave, which can be pickled; collective."""
    given = [value]
    if distributed.get_world_size() > 1:
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        distributed.broadcast_object_list(given, src=0, device=torch.device(device))
    return given[0]
