"""A certificate counts where an authority that is trusted vouches for it, now and for signing."""

import base64
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from registry.artifact import read_descriptor
from registry.errors import UntrustedError
from registry.trust.keys import certificate_fingerprint, key_fingerprint
from registry.trust.signing import Signer, sign_directory
from registry.trust.testing.house import House
from registry.trust.testing.identities import (
    DAY,
    NOW,
    Identity,
    issue,
    write_certificate,
    write_private_key,
)
from registry.trust.verification import check_artifact


class Authorities(House):
    """An artifact that a certificate has signed, over one between it and the root."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.root = issue("root", authority=True, **changes.get("root", {}))
        self.between = issue("between", self.root, authority=True, **changes.get("between", {}))
        self.leaf = issue("release", self.between, **changes.get("leaf", {}))
        write_certificate(folder / "root.pem", self.root)
        self.sign_by(self.leaf, self.between)

    def sign_by(self, leaf: Identity, *issuers: Identity) -> Path:
        """Signs by a certificate."""
        key = write_private_key(self.folder / "leaf", leaf.key)
        own = write_certificate(self.folder / "leaf.pem", leaf)
        chain = [write_certificate(self.folder / "chain.pem", *issuers)]
        return sign_directory(self.artifact, Signer.read(key, own, chain))


ROOT = "certificates: [{file: root.pem}]"


def test_certificate_of_a_trusted_authority_passes(tmp_path: Path) -> None:
    house = Authorities(tmp_path / "house")
    (signer,) = house.check(ROOT).signers
    fingerprint = certificate_fingerprint(house.leaf.certificate)
    assert signer == ("certificate", "CN=release", fingerprint, "")
    (path,) = (house.artifact / "signatures").iterdir()
    assert path.stem == fingerprint[:16]

    house.check("certificates: [{file: root.pem, subjects: [CN=release]}]")
    with pytest.raises(UntrustedError, match="no authority is trusted to vouch for CN=release"):
        house.check("certificates: [{file: root.pem, subjects: [CN=other]}]")
    with pytest.raises(UntrustedError, match="no authority is trusted"):
        house.check("keys: [{file: first.pub}]")


def test_authority_in_the_bundle_is_fine_and_its_place_does_not_make_it_trusted(
    tmp_path: Path,
) -> None:
    house = Authorities(tmp_path / "house")
    house.sign_by(house.leaf, house.between, house.root)
    assert house.check(ROOT).signers
    write_certificate(house.folder / "root.pem", issue("root", authority=True))
    with pytest.raises(UntrustedError, match="no trusted authority vouches for CN=release"):
        house.check(ROOT)


def test_certificate_that_is_of_no_use_is_refused(tmp_path: Path) -> None:
    house = Authorities(tmp_path / "house")
    house.sign_by(house.leaf, house.between, issue("stranger", authority=True))
    with pytest.raises(UntrustedError, match="are not those from CN=release to an authority"):
        house.check(ROOT)


@pytest.mark.parametrize("which", ["leaf", "between", "root"])
def test_certificates_count_in_their_time_alone(tmp_path: Path, which: str) -> None:
    changes = {which: {"begins": NOW - DAY, "ends": NOW + DAY}}
    house = Authorities(tmp_path / "house", **changes)
    assert house.check(ROOT).signers
    for now in (NOW - DAY - timedelta(seconds=1), NOW + DAY + timedelta(seconds=1)):
        with pytest.raises(UntrustedError, match="expired|not valid"):
            house.check(ROOT, now)
        (warning,) = house.check(f"policy: warn\n{ROOT}", now).warnings
        assert "valid" in warning or "expired" in warning


@pytest.mark.parametrize("which", ["leaf", "between", "root", "key"])
def test_revoked_certificate_does_not_count(tmp_path: Path, which: str) -> None:
    house = Authorities(tmp_path / "house")
    if which == "key":
        entry = f"key: {key_fingerprint(house.leaf.key.public_key())}"
    else:
        entry = f"certificate: {certificate_fingerprint(getattr(house, which).certificate)}"
    with pytest.raises(UntrustedError, match="which was revoked"):
        house.check(f"{ROOT}\nrevoked: [{{{entry}}}]")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"leaf": {"uses": [ExtendedKeyUsageOID.SERVER_AUTH]}}, "other uses than signing code"),
        ({"leaf": {"may_sign": False}}, "must not sign .keyUsage"),
        ({"root": {"path_length": 0}}, "no trusted authority vouches for"),
    ],
)
def test_certificate_for_something_else_does_not_count(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    house = Authorities(tmp_path / "house", **changes)
    with pytest.raises(UntrustedError, match=message):
        house.check(ROOT)


def test_certificate_issued_by_one_that_is_no_authority_does_not_count(tmp_path: Path) -> None:
    house = Authorities(tmp_path / "house")
    house.sign_by(issue("forged", house.leaf), house.leaf, house.between)
    for path in (house.artifact / "signatures").iterdir():
        if path.stem == certificate_fingerprint(house.leaf.certificate)[:16]:
            path.unlink()
    with pytest.raises(UntrustedError, match="no trusted authority vouches for CN=forged"):
        house.check(ROOT)


def test_spare_bits_of_a_certificate_s_signature_are_none(tmp_path: Path) -> None:
    # A signature that ends in a bit of 0 reads the same if that bit is said to be spare.
    houses = (Authorities(tmp_path / str(number)) for number in range(64))
    house = next(h for h in houses if h.between.certificate.signature[-1] % 2 == 0)
    certificate = house.between.certificate
    whole, signature = certificate.public_bytes(Encoding.DER), certificate.signature
    changed = whole[: -len(signature) - 1] + b"\1" + signature
    (path,) = (house.artifact / "signatures").iterdir()
    before, after = (base64.b64encode(content).decode() for content in (whole, changed))
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(UntrustedError, match="not written as the tools write it"):
        house.check(ROOT)


def test_every_changed_byte_of_a_signature_by_certificate_is_found(tmp_path: Path) -> None:
    house = Authorities(tmp_path / "house")
    (path,) = (house.artifact / "signatures").iterdir()
    content = path.read_bytes()
    trust, described = house.trust(ROOT), read_descriptor(house.artifact)
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << (position % 8)
        path.write_bytes(changed)
        with pytest.raises(UntrustedError):
            check_artifact(described, trust, NOW)
