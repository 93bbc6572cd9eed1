"""Both clients over TLS: with credentials of the caller's, and without."""

import datetime
from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from inference import grpc_service_pb2 as oip

from serving.client.errors import InferenceError
from serving.client.testing.both_clients import CLIENTS, Connect, FakeTime
from serving.client.testing.scripted_server import ScriptedServer, scripted_server


class Pair(NamedTuple):
    """A key and its own certificate, in PEM."""

    key: bytes
    certificate: bytes


def self_signed() -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return Pair(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate.public_bytes(pem),
    )


@pytest.fixture(scope="module")
def pair() -> Pair:
    return self_signed()


@pytest.fixture(scope="module")
def server(pair: Pair) -> Iterator[ScriptedServer]:
    credentials = grpc.ssl_server_credentials([pair])
    live = {"ServerLive": [oip.ServerLiveResponse(live=True)]}
    with scripted_server(live, credentials=credentials) as server:
        yield server


@pytest.mark.parametrize("connect", CLIENTS)
def test_a_server_whose_certificate_is_known_is_asked(
    connect: Connect, server: ScriptedServer, pair: Pair
) -> None:
    credentials = grpc.ssl_channel_credentials(pair.certificate)
    with connect(server.address, credentials=credentials) as client:
        assert client.live()


@pytest.mark.parametrize("connect", CLIENTS)
@pytest.mark.parametrize("how", ["another certificate", "in the clear"])
def test_another_server_is_not(connect: Connect, server: ScriptedServer, how: str) -> None:
    clear = how == "in the clear"
    credentials = None if clear else grpc.ssl_channel_credentials(self_signed().certificate)
    asked = len(server.received["ServerLive"])
    with (
        connect(server.address, FakeTime(), credentials=credentials) as client,
        pytest.raises(InferenceError) as error,
    ):
        client.live()
    assert error.value.code is grpc.StatusCode.UNAVAILABLE
    assert len(server.received["ServerLive"]) == asked
