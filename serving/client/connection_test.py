"""What a client is told, and refuses."""

import pytest

from serving.client.connection import Connection, checked_address, checked_timeout

ADDRESSES = ["127.0.0.1:8001", "localhost:1", "[::1]:65535", "gateway.example.com:8001"]
OTHER_ADDRESSES = ["", "localhost", ":8001", "a b:8001", "::1:8001", "http://127.0.0.1:8001"]
OTHER_ADDRESSES += [
    f"127.0.0.1:{port}"
    for port in ["", "0", "-1", "65536", "http", "8001\n", "8001:8002", "9" * 5000, "\uff18\uff10"]
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_address_is_taken(address: str) -> None:
    assert checked_address(address) == address


@pytest.mark.parametrize("address", OTHER_ADDRESSES)
def test_other_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address is .*; expected host:port"):
        checked_address(address)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_other_timeout_is_refused(timeout_s: float) -> None:
    with pytest.raises(
        ValueError, match=r"timeout is .* s; expected more than 0 and at most 86400"
    ):
        checked_timeout(timeout_s)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_message_bytes", 0),
        ("max_message_bytes", 2**31),
        ("streams_per_channel", 0),
        ("max_channels", -1),
        ("keepalive_s", 0.0),
        ("keepalive_s", float("nan")),
        ("keepalive_timeout_s", float("inf")),
    ],
)
def test_other_settings_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} is .*; expected"):
        Connection(**{field: value})
