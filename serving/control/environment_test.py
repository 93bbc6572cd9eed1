"""What of the user's environment reaches Ray."""

import pytest

from serving.control.environment import PRIVATE_SETTINGS, SETTINGS, isolate

CREDENTIALS = {"RAY_AUTH_TOKEN": "t", "RAY_USE_TLS": "1", "RAY_TLS_CA_CERT": "ca.pem"}


@pytest.mark.parametrize("address", ["auto", "ray://192.0.2.1:10001", "nonsense"])
def test_the_private_ray_finds_nothing_of_another_one(address: str) -> None:
    environ = CREDENTIALS | {"RAY_ADDRESS": address, "http_proxy": "x", "HTTPS_PROXY": "y"}
    assert isolate(environ) == sorted([*CREDENTIALS, "RAY_ADDRESS"])
    assert environ == SETTINGS | PRIVATE_SETTINGS
    assert isolate(environ) == []


@pytest.mark.parametrize(
    ("address", "unused"),
    [("192.0.2.1:6379", ["RAY_ADDRESS", "RAY_NAMESPACE"]), ("auto", ["RAY_NAMESPACE"])],
)
def test_a_cluster_that_is_joined_is_shown_the_credentials(address: str, unused: list[str]) -> None:
    environ = CREDENTIALS | {"RAY_ADDRESS": "192.0.2.2:6379", "RAY_NAMESPACE": "n", "all_proxy": ""}
    assert isolate(environ, address) == unused
    kept = {} if address != "auto" else {"RAY_ADDRESS": "192.0.2.2:6379"}
    assert environ == CREDENTIALS | SETTINGS | kept | {"RAY_AUTH_MODE": "token"}


def test_no_token_is_no_mode() -> None:
    environ: dict[str, str] = {}
    isolate(environ, "auto")
    assert environ == SETTINGS
    environ = {"RAY_AUTH_TOKEN_PATH": "/token", "RAY_AUTH_MODE": "k8s"}
    isolate(environ, "auto")
    assert environ["RAY_AUTH_MODE"] == "k8s"
