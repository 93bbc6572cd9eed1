"""What is signed here the public tool verifies, and what that signs is accepted here."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from registry.artifact import publish, read_descriptor
from registry.errors import ArtifactError, TrustError, UntrustedError
from registry.example import example_artifact, example_tensors
from registry.trust.keys import key_fingerprint
from registry.trust.signing import PASSWORD_VARIABLE, Signer, generate_key_pair, sign_directory
from registry.trust.testing.identities import (
    issue,
    write_certificate,
    write_private_key,
    write_public_key,
)
from registry.trust.trust import load_trust
from registry.trust.verification import check_artifact

CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """An artifact with a file in a folder, which nobody has signed."""
    directory = tmp_path / "artifact"
    publish(directory, example_artifact(), example_tensors(), {"programs/model": b"program"})
    return directory


def public_tool(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs OpenSSF's own command line, which knows nothing of this project."""
    # By its path: the tool is to find nothing of ours.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-m", "model_signing", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )


def checked(artifact: Path, text: str) -> list[str]:
    """Who has signed, by a trust root with this text beside the artifact."""
    file = artifact.with_name("trust.yaml")
    file.write_text(text)
    verification = check_artifact(read_descriptor(artifact), load_trust(file))
    return [signer.name for signer in verification.signers]


@pytest.mark.parametrize("curve", CURVES)
def test_every_curve_signs(artifact: Path, curve: str) -> None:
    key = ec.generate_private_key(CURVES[curve])
    private = write_private_key(artifact.with_name("key"), key)
    write_public_key(artifact.with_name("key.pub"), key)
    sign_directory(artifact, Signer.read(private))
    assert checked(artifact, "keys: [{file: key.pub}]") == ["key.pub"]


def test_public_tool_verifies_what_was_signed_and_refuses_one_changed_byte(artifact: Path) -> None:
    public = generate_key_pair(artifact.with_name("key"))
    signature = sign_directory(artifact, Signer.read(artifact.with_name("key")))
    sign_directory(artifact, Signer(ec.generate_private_key(ec.SECP256R1())))  # of another key
    verify = ("verify", "key", artifact, "--signature", signature, "--public_key", public)
    told = public_tool(*verify)
    assert told.returncode == 0, told.stderr
    assert "Verification succeeded" in told.stdout + told.stderr

    weights = artifact / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    told = public_tool(*verify)
    assert told.returncode != 0
    assert "model.safetensors" in told.stdout + told.stderr


def test_public_tool_verifies_a_signature_by_certificate(artifact: Path) -> None:
    root = issue("root", authority=True)
    leaf = issue("release", root)
    folder = artifact.parent
    authority = write_certificate(folder / "root.pem", root)
    signer = Signer.read(
        write_private_key(folder / "leaf", leaf.key),
        write_certificate(folder / "leaf.pem", leaf),
        [authority],
    )
    signature = sign_directory(artifact, signer)
    told = public_tool(
        *("verify", "certificate", artifact, "--signature", signature),
        *("--certificate_chain", authority),
    )
    assert told.returncode == 0, told.stderr


def test_signature_of_the_public_tool_is_accepted(artifact: Path) -> None:
    public = generate_key_pair(artifact.with_name("key"))
    fingerprint = Signer.read(artifact.with_name("key")).fingerprint
    signature = artifact / "signatures" / f"{fingerprint[:16]}.sig"
    signature.parent.mkdir()
    told = public_tool(
        *("sign", "key", artifact, "--signature", signature),
        *("--private_key", artifact.with_name("key")),
    )
    assert told.returncode == 0, told.stderr
    assert checked(artifact, f"keys: [{{file: {public.name}}}]") == ["key.pub"]


def test_key_pair_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    public = generate_key_pair(tmp_path / "key")
    assert public == tmp_path / "key.pub"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(TrustError, match="exists; a key is never replaced"):
        generate_key_pair(tmp_path / "key")
    public.unlink()
    with pytest.raises(TrustError, match="exists; a key is never replaced"):
        generate_key_pair(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before
    assert not public.exists()
    with pytest.raises(TrustError, match="cannot write .*No such file or directory"):
        generate_key_pair(tmp_path / "absent" / "key")


def test_encrypted_key_wants_its_password(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = artifact.with_name("key")
    generate_key_pair(private, "secret")
    assert b"ENCRYPTED" in private.read_bytes()
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    with open(os.devnull) as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        with pytest.raises(TrustError, match=r"is encrypted; give its password in \$HPC_SIGNING"):
            Signer.read(private)
    with pytest.raises(TrustError, match="the password is not the right one"):
        Signer.read(private, password=lambda path: "other")
    sign_directory(artifact, Signer.read(private, password=lambda path: "secret"))
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")
    sign_directory(artifact, Signer.read(private))
    assert checked(artifact, "keys: [{file: key.pub}]") == ["key.pub"]


WEAK: dict[str, tuple[Callable[[], Any], str]] = {
    "RSA": (lambda: rsa.generate_private_key(65537, 2048), "the key is RSA; expected an elliptic"),
    "Ed25519": (ed25519.Ed25519PrivateKey.generate, "the key is Ed25519; expected an elliptic"),
    "P-192": (lambda: ec.generate_private_key(ec.SECP192R1()), "on the curve secp192r1; expected"),
    "K-256": (lambda: ec.generate_private_key(ec.SECP256K1()), "on the curve secp256k1; expected"),
}


@pytest.mark.parametrize("kind", WEAK)
def test_other_keys_are_refused(tmp_path: Path, kind: str) -> None:
    make, message = WEAK[kind]
    key = make()
    with pytest.raises(TrustError, match=message):
        Signer.read(write_private_key(tmp_path / "key", key))
    write_public_key(tmp_path / "key.pub", key)
    (tmp_path / "trust.yaml").write_text("keys: [{file: key.pub}]")
    with pytest.raises(TrustError, match=message):
        load_trust(tmp_path / "trust.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no private key in PEM"),
        (
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "is no private key that",
        ),
        (b"x" * 70_000, "no key or certificate can be read there"),
    ],
)
def test_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(TrustError, match=message):
        Signer.read(tmp_path / "key")
    with pytest.raises(TrustError, match="absent: no key or certificate can be read there"):
        Signer.read(tmp_path / "absent")


def test_certificate_of_another_key_or_without_issuer_is_refused(tmp_path: Path) -> None:
    root = issue("root", authority=True)
    leaf = issue("release", root)
    key = write_private_key(tmp_path / "leaf", leaf.key)
    with pytest.raises(TrustError, match="is not the certificate of .*leaf, but of another key"):
        Signer.read(key, write_certificate(tmp_path / "root.pem", root))
    with pytest.raises(TrustError, match="the certificates that issued it are missing"):
        Signer.read(key, write_certificate(tmp_path / "leaf.pem", leaf))
    with pytest.raises(TrustError, match="holds no certificate in PEM"):
        Signer.read(key, key)


def test_what_is_no_artifact_is_not_signed(artifact: Path, tmp_path: Path) -> None:
    signer = Signer(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ArtifactError, match="no artifact at"):
        sign_directory(tmp_path / "absent", signer)
    weights = artifact / "model.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    with pytest.raises(TrustError, match="was not signed: its files are not as its descriptor"):
        sign_directory(artifact, signer)
    assert not list((artifact / "signatures").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact"]


def test_signature_that_cannot_be_written_leaves_nothing(artifact: Path) -> None:
    (artifact / "signatures").mkdir()
    shutil.copytree(artifact, artifact.with_name("copy"))
    before = sorted(artifact.parent.iterdir())
    signer = Signer(ec.generate_private_key(ec.SECP256R1()))
    fingerprint = key_fingerprint(signer.key.public_key())
    (artifact / "signatures" / f"{fingerprint[:16]}.sig").mkdir()
    with pytest.raises(ArtifactError, match="cannot sign"):
        sign_directory(artifact, signer)
    assert sorted(artifact.parent.iterdir()) == before


def test_signing_again_replaces_the_signature(artifact: Path) -> None:
    generate_key_pair(artifact.with_name("key"))
    signer = Signer.read(artifact.with_name("key"))
    first = sign_directory(artifact, signer)
    before = first.read_bytes()
    assert sign_directory(artifact, signer) == first
    assert first.read_bytes() != before  # ECDSA draws a number
    assert [path.name for path in (artifact / "signatures").iterdir()] == [first.name]
    assert checked(artifact, "keys: [{file: key.pub}]") == ["key.pub"]


def test_private_key_never_comes_to_a_disk(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and watching and set(str(arguments[1])) & set("wxa+"):
            written.append(str(arguments[0]))

    watching = True
    sys.addaudithook(note)
    sign_directory(artifact, Signer(ec.generate_private_key(ec.SECP256R1())))
    watching = False
    assert written
    for path in written:
        if Path(path).is_file():
            assert b"PRIVATE" not in Path(path).read_bytes()


def test_private_key_in_the_trust_root_is_refused(artifact: Path) -> None:
    generate_key_pair(artifact.with_name("key"))
    with pytest.raises(TrustError, match="is a private key, which nobody who verifies should"):
        checked(artifact, "keys: [{file: key}]")
    with pytest.raises(UntrustedError, match="it has no signature"):
        checked(artifact, "keys: [{file: key.pub}]")


def test_public_key_that_is_written_is_the_private_ones(tmp_path: Path) -> None:
    public = generate_key_pair(tmp_path / "key")
    key = serialization.load_pem_public_key(public.read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key_fingerprint(key) == Signer.read(tmp_path / "key").fingerprint


def test_password_is_asked_of_nobody_where_stdin_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    monkeypatch.setattr("sys.stdin", None)
    generate_key_pair(tmp_path / "key", "secret")
    with pytest.raises(TrustError, match="is encrypted; give its password"):
        Signer.read(tmp_path / "key")
