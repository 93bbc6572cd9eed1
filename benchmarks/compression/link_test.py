"""Bytes go round the ring, and the interface counts them."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.compression.link import Ring, sent_bytes

_BYTES = 3_000_000
_PORT = 29500


def test_every_byte_is_counted() -> None:
    pid = os.getpid()
    # An address of loopback that no other test has.
    address = f"127.{1 + pid // 2**16 % 250}.{pid // 2**8 % 2**8}.{1 + pid % 250}"
    rings = [Ring([address] * 3, rank, _PORT) for rank in range(3)]
    before = sent_bytes("lo")
    with ThreadPoolExecutor(len(rings)) as threads:
        for _ in range(2):
            seconds = list(threads.map(lambda ring: ring.transfer(_BYTES), rings))
            assert min(seconds) > 0
    assert sent_bytes("lo") - before >= 2 * len(rings) * _BYTES


def test_unknown_interface() -> None:
    with pytest.raises(ValueError, match="has no interface nowhere0"):
        sent_bytes("nowhere0")
