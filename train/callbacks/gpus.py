"""What NVML says of GPUs. None of it has been run on a GPU yet.

https://docs.nvidia.com/deploy/nvml-api/
"""

from collections.abc import Sequence
from typing import Any

from train.events import GpuUsage

_WATTS_PER_MILLIWATT = 1e-3


def open_nvml() -> Any:
    """Returns the library, ready to be asked; None: this machine has no NVML."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def gpu_usage(nvml: Any) -> Sequence[GpuUsage | None]:
    """Returns the usage of each GPU of this machine; None for one that does not say.

    Args:
        nvml: Of `open_nvml`, or what answers as it does.
    """
    return [_usage(nvml, number) for number in range(nvml.nvmlDeviceGetCount())]


def _usage(nvml: Any, number: int) -> GpuUsage | None:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(number)
        return GpuUsage(
            nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            nvml.nvmlDeviceGetMemoryInfo(handle).used,
            nvml.nvmlDeviceGetPowerUsage(handle) * _WATTS_PER_MILLIWATT,
        )
    except nvml.NVMLError:  # a virtual GPU has no power, for example
        return None
