"""A private Ray on this machine, for the life of one gateway."""

import logging
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from serving.errors import StartError

# Tensors above BY_REFERENCE_MIN_BYTES (deployment.py) pass through it; Ray's own default would take
# a third of the machine's memory.
OBJECT_STORE_BYTES = 256 * 2**20


@contextmanager
def local_cluster(num_cpus: int) -> Iterator[None]:
    """Runs Ray with a token that never leaves its processes, and removes it with all its files.

    Enter and leave it on one thread that lives as long: the kernel stops Ray's processes when the
    thread that started them ends. That also ends them if this process is killed.

    Args:
        num_cpus: how many replicas can run, each reserving one.

    Raises:
        StartError: Ray could not start.
    """
    # What a terminal that closes sends to all is for this process to act on; children inherit this.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    # Unix socket paths are limited to 107 bytes, and TMPDIR can be longer than that.
    directory = tempfile.mkdtemp(prefix="hpc-", dir="/tmp")
    # RAY_AUTH_MODE is unset (environment.py), which means to authenticate a new cluster by token.
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        _start(num_cpus, directory)
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(directory, ignore_errors=True)


def _start(num_cpus: int, directory: str) -> None:
    try:
        ray.init(
            address="local",  # by default it joins a Ray that it finds on this machine
            num_cpus=num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=directory,
        )
    except Exception as error:  # Ray documents none, and raises many
        raise StartError(f"Ray could not start: {error}") from error
