"""The one rule by which every operation chooses its backend.

The device and the dtype choose; `HPC_KERNEL_BACKEND` overrides; what is not supported is an error
that names what is. Nothing falls back silently. A call chooses once, and hands the choice on to all
that it runs, its derivatives too, whenever those are asked for.
"""

import os
from collections.abc import Mapping

ENVIRONMENT_VARIABLE = "HPC_KERNEL_BACKEND"

# In order of preference, should two backends serve the same device and dtype.
BACKENDS = ("cpu", "triton", "cuda", "reference")

# Backends that are never chosen unless asked for by name: the CUDA C++ ones have not yet been
# measured against Triton's on a GPU.
ON_REQUEST = frozenset({"cuda", "reference"})

# What an operation's backends can do: backend -> device -> dtypes.
Support = Mapping[str, Mapping[str, frozenset[str]]]


class UnsupportedKernelError(ValueError):
    """No backend of an operation can serve the request."""


def requested_backend() -> str:
    """Returns the backend that HPC_KERNEL_BACKEND names, or "" where it names none.

    Raises:
      UnsupportedKernelError: there is no backend of that name.
    """
    requested = os.environ.get(ENVIRONMENT_VARIABLE, "")
    if requested and requested not in BACKENDS:
        raise UnsupportedKernelError(
            f"{ENVIRONMENT_VARIABLE} must be one of {', '.join(BACKENDS)}, got {requested!r}"
        )
    return requested


def select_backend(operation: str, support: Support, *, device: str, dtype: str) -> str:
    """Returns the name of the backend that serves `dtype` on `device`.

    Args:
      operation: name of the operation, for the error message.
      support: the devices and dtypes of each backend of the operation.
      device: "cpu" or "cuda".
      dtype: numpy's name of the dtype, such as "float32" or "bfloat16".

    Raises:
      UnsupportedKernelError: no backend does, the one that HPC_KERNEL_BACKEND names does not, or
        there is no backend of that name.
    """
    requested = requested_backend()
    candidates = (requested,) if requested else [b for b in BACKENDS if b not in ON_REQUEST]
    for backend in candidates:
        if dtype in support.get(backend, {}).get(device, ()):
            return backend
    chosen = f" with {ENVIRONMENT_VARIABLE}={requested}" if requested else ""
    raise UnsupportedKernelError(
        f"{operation} does not support {dtype} on {device}{chosen}; supported: {_describe(support)}"
    )


def check_backend(
    operation: str, support: Support, backend: str, *, device: str, dtype: str
) -> None:
    """Raises UnsupportedKernelError unless a backend, chosen before, serves `dtype` on `device`.

    For what may have been chosen for other arrays: an operator of PyTorch in a program that was
    exported and moved to another device.
    """
    if dtype not in support.get(backend, {}).get(device, ()):
        raise UnsupportedKernelError(
            f"{operation}'s backend {backend!r} does not support {dtype} on {device}; supported: "
            f"{_describe(support)}"
        )


def explain_backends(
    operation: str, support: Support, chosen: str, *, device: str, dtype: str
) -> str:
    """Returns, in one line for each backend, why it serves the request or why it does not.

    Args:
      operation: as for `select_backend`.
      support: likewise.
      chosen: what `select_backend` returned.
      device: as for `select_backend`.
      dtype: likewise.
    """
    requested = requested_backend()
    lines = []
    for backend in (chosen, *(b for b in BACKENDS if b != chosen and b in support)):
        serves = dtype in support[backend].get(device, ())
        if backend == chosen:
            why = f"chosen: {ENVIRONMENT_VARIABLE} asks for it" if requested else "chosen"
        elif not serves:
            why = f"does not serve {dtype} on {device}"
        elif requested:
            why = f"not what {ENVIRONMENT_VARIABLE} asks for"
        else:
            why = f"only when {ENVIRONMENT_VARIABLE}={backend} asks for it"
        lines.append(f"{operation}: {backend}: {why}")
    return "\n".join(lines)


def _describe(support: Support) -> str:
    """One line such as `cpu on cpu: bfloat16, float32; triton on cuda: float16`."""
    return "; ".join(
        f"{backend} on {device}: {', '.join(sorted(dtypes))}"
        for backend in BACKENDS
        for device, dtypes in sorted(support.get(backend, {}).items())
    )
