"""Buffers that a thread uses again at its next collective.

Fresh memory of some megabytes costs more page faults than its quantization costs time.
"""

import threading

import torch

_local = threading.local()


def buffer(name: str, num_bytes: int, device: torch.device) -> torch.Tensor:
    """Returns [num_bytes] of uint8, the same memory as at this thread's last call with this name.

    Whoever asks is done with it, sends in flight included, before the thread asks again.
    """
    buffers: dict[tuple[str, torch.device, int], torch.Tensor] = _local.__dict__.setdefault(
        "buffers", {}
    )
    # On a GPU the next user may be on another stream, which would not wait for this one.
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    key = (name, device, stream)
    held = buffers.get(key)
    if held is None or held.numel() < num_bytes:
        held = buffers[key] = torch.empty(num_bytes, dtype=torch.uint8, device=device)
    return held[:num_bytes]


def forget() -> None:
    """Gives all of this thread's buffers up: a failed collective may still write into them."""
    _local.__dict__.pop("buffers", None)
