"""The bytes that `Wire` counts are the bytes that the sockets sent."""

import os
import socket
import struct
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from comm.compression import Compression
from comm.testing import ranks
from comm.torch import collectives
from comm.wire import Wire

_SIZE = 4_000_000

# The offset of tcpi_bytes_sent in Linux's struct tcp_info; tcpi_bytes_retrans, which a busy machine
# makes of them, follows.
_BYTES_SENT = 200
_TCP_INFO_BYTES = 216

# gloo's headers and the record in which ranks compare what they do.
_OVERHEAD = 0.01

# What the whole of it is for: of float32, and of bfloat16, which is half.
_MAX_RATIO_FLOAT32 = 0.27
_MAX_RATIO_BFLOAT16 = 0.52


class _Sent(NamedTuple):
    socket_bytes: int
    wire: Wire
    uncompressed_socket_bytes: int


def _sent_by_sockets() -> int:
    """What this process has sent over all its TCP connections."""
    total = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            connection = socket.socket(fileno=os.dup(int(descriptor.name)))
        except OSError:
            continue  # no socket, or the descriptor of the listing itself
        with connection:
            if connection.family == socket.AF_INET and connection.type == socket.SOCK_STREAM:
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
                sent, sent_again = struct.unpack_from("QQ", info, _BYTES_SENT)
                total += sent - sent_again
    return total


def _send(rank: int, world_size: int, collective: str, dtype: torch.dtype) -> _Sent:
    x, wire = torch.randn(_SIZE).to(dtype), Wire()
    share = torch.empty(_SIZE // world_size, dtype=dtype)
    torch.distributed.all_reduce(torch.ones(1))  # connects all with all
    before = _sent_by_sockets()
    if collective == "all_reduce":
        torch.distributed.all_reduce(x.clone())
    else:
        torch.distributed.reduce_scatter_single(share, x)
    torch.distributed.barrier()
    uncompressed = _sent_by_sockets()
    if collective == "all_reduce":
        collectives.all_reduce(x, Compression(), wire=wire)
    else:
        collectives.reduce_scatter(share, x, Compression(), wire=wire)
    torch.distributed.barrier()
    return _Sent(_sent_by_sockets() - uncompressed, wire, uncompressed - before)


@pytest.mark.parametrize("collective", ["all_reduce", "reduce_scatter"])
@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_counts_what_sockets_sent_and_it_is_a_quarter(
    collective: str, world_size: int, dtype: torch.dtype
) -> None:
    most = _MAX_RATIO_FLOAT32 if dtype == torch.float32 else _MAX_RATIO_BFLOAT16
    sent = ranks.run(_send, world_size, collective, dtype)
    for rank in sent:
        assert rank.wire.sent_bytes == pytest.approx(rank.socket_bytes, rel=_OVERHEAD)
        assert rank.wire.ratio <= _MAX_RATIO_FLOAT32
    if collective == "all_reduce":
        # What gloo itself sends for the same; its reduce-scatter is not the best there is.
        total = sum(rank.socket_bytes for rank in sent)
        assert total <= most * sum(rank.uncompressed_socket_bytes for rank in sent)
