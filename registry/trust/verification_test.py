"""What nobody trusted has signed does not pass, nor does a signature that was changed."""

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hpc.artifact.v1 import artifact_pb2

from registry.artifact import ArtifactError, load, publish, read_descriptor
from registry.errors import UntrustedError
from registry.example import example_artifact, example_tensors
from registry.trust.testing.house import House
from registry.trust.testing.identities import (
    NOW,
)
from registry.trust.verification import Verification, check_artifact


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Made once a module; tests work on copies."""
    house = House(tmp_path_factory.mktemp("made"))
    house.sign()
    return house


@pytest.fixture
def house(made: House, tmp_path: Path) -> House:
    """A house whose artifact the first key has signed."""
    copy = object.__new__(House)
    copy.folder = tmp_path / "house"
    shutil.copytree(made.folder, copy.folder)
    copy.artifact = copy.folder / "artifact"
    return copy


FIRST = "keys: [{file: first.pub, comment: builds}]"
SECOND = "keys: [{file: second.pub}]"


def test_signature_of_a_trusted_key_passes(house: House) -> None:
    (signer,) = house.check(FIRST).signers
    assert (signer.kind, signer.name, signer.comment) == ("key", "first.pub", "builds")
    assert signer.fingerprint == house.fingerprint("first")
    (path,) = (house.artifact / "signatures").iterdir()
    assert path.name == f"{house.fingerprint('first')[:16]}.sig"
    assert str(signer) == f"key first.pub (builds), sha256 {path.stem}"


def test_signing_changes_no_identity(house: House) -> None:
    before = load(house.artifact)
    house.sign("second")
    assert read_descriptor(house.artifact).digest == before.digest
    assert len(house.check("keys: [{file: first.pub}, {file: second.pub}]").signers) == 2


def test_other_key_is_refused_warned_of_or_not_looked_at(house: House) -> None:
    with pytest.raises(UntrustedError, match="nobody who is trusted has signed .*not trusted"):
        house.check(SECOND)
    (warning,) = house.check(f"policy: warn\n{SECOND}").warnings
    assert house.fingerprint("first") in warning
    assert house.check("policy: off") == Verification()


def test_unsigned_artifact_is_refused(house: House) -> None:
    shutil.rmtree(house.artifact / "signatures")
    with pytest.raises(UntrustedError, match="it has no signature; sign it by a key of"):
        house.check(FIRST)
    (warning,) = house.check(f"policy: warn\n{FIRST}").warnings
    assert "has no signature" in warning


def test_unknown_key_beside_a_trusted_one_does_no_harm(house: House) -> None:
    house.sign("second")
    assert [signer.name for signer in house.check(SECOND).signers] == ["second.pub"]


def test_keys_are_rotated(house: House) -> None:
    both = "keys: [{file: first.pub}, {file: second.pub}]"
    assert house.check(both).signers
    with pytest.raises(UntrustedError):  # the old one is out, and nothing was signed anew
        house.check(SECOND)
    house.sign("second")
    assert house.check(both).signers
    assert house.check(SECOND).signers


@pytest.mark.parametrize(
    ("period", "message"),
    [
        ("not_before: 2026-11-30", "is not trusted before 2026-11-30"),
        ("not_after: 2026-11-29", "was trusted until 2026-11-29"),
        ("not_after: '2026-11-29T13:00:00+02:00'", r"was trusted until 2026-11-29 13:00:00\+02"),
    ],
)
def test_key_counts_in_its_time_alone(house: House, period: str, message: str) -> None:
    with pytest.raises(UntrustedError, match=message):
        house.check(f"keys: [{{file: first.pub, {period}}}]")
    house.check(
        "keys: [{file: first.pub, not_before: 2026-11-29, not_after: '2026-11-29T12:00:01Z'}]"
    )


def test_revoked_key_does_not_count(house: House) -> None:
    revoked = f"\nrevoked: [{{key: {house.fingerprint('first')}, reason: lost}}]"
    with pytest.raises(UntrustedError, match=r"which was revoked \(lost\)"):
        house.check(FIRST + revoked)
    house.sign("second")
    both = "keys: [{file: first.pub}, {file: second.pub}]"
    assert [signer.name for signer in house.check(both + revoked).signers] == ["second.pub"]


@pytest.mark.parametrize("policy", ["require", "warn"])
def test_revoked_artifact_is_refused(house: House, policy: str) -> None:
    digest = read_descriptor(house.artifact).digest
    text = f"policy: {policy}\n{FIRST}\nrevoked: [{{artifact: {digest}, reason: leaks}}]"
    with pytest.raises(UntrustedError, match=r"artifact was revoked \(leaks\)"):
        house.check(text)


@pytest.mark.parametrize("policy", ["require", "warn"])
def test_signature_of_another_artifact_is_refused(
    house: House, policy: str, tmp_path: Path
) -> None:
    other = example_artifact()
    other.version = "1.2.4"
    publish(tmp_path / "other", other, example_tensors(), {"README.md": b"# digits"})
    shutil.copytree(house.artifact / "signatures", tmp_path / "other" / "signatures")
    message = r"who signed saw another content of artifact\.pb, artifact\.pb\.sha256"
    with pytest.raises(UntrustedError, match=message):
        house.check(f"policy: {policy}\n{FIRST}", directory=tmp_path / "other")


@pytest.mark.parametrize("path", ["artifact.pb", "artifact.pb.sha256"])
def test_every_changed_byte_of_the_descriptor_is_found(house: House, path: str) -> None:
    file = house.artifact / path
    content = file.read_bytes()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << (position % 8)
        file.write_bytes(changed)
        with pytest.raises(ArtifactError, match="is corrupt|is not the artifact"):
            house.check(FIRST)


def test_every_changed_byte_of_a_signature_is_found(house: House) -> None:
    (path,) = (house.artifact / "signatures").iterdir()
    content = path.read_bytes()
    house.sign("second")  # so that it is not enough that the first does not count any more
    both = house.trust("keys: [{file: first.pub}, {file: second.pub}]")
    described = read_descriptor(house.artifact)
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << (position % 8)
        path.write_bytes(changed)
        with pytest.raises(UntrustedError, match="is no signature of what is there"):
            check_artifact(described, both, NOW)
    path.write_bytes(content)
    assert len(check_artifact(described, both, NOW).signers) == 2


def rewrite(house: House, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edits a signature file and writes it as the tools do."""
    (path,) = (house.artifact / "signatures").iterdir()
    bundle = json.loads(path.read_bytes())
    edit(bundle)
    path.write_text(json.dumps(bundle, separators=(",", ":")))


MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is not JSON"),
    "binary": (bytes(range(256)), "it is not JSON"),
    "number": (b"1", "no signature by a key or a certificate"),
    "null": (b"null", "no signature by a key or a certificate"),
    "list": (b"[]", "no signature by a key or a certificate"),
    "object": (b"{}", "no signature by a key or a certificate: mediaType: missing"),
    "deep": (b'{"a":' * 100_000, "it is not JSON"),
    "deep lists": (b"[" * 100_000 + b"]" * 100_000, "it is not JSON"),
    "twice": (b'{"a":1,"a":1}', "a key is there twice"),
    "spaces": (b'{"a": 1}', "not written as the tools write it"),
    "NaN": (b'{"a":NaN}', "NaN is no number"),
    "many digits": (b'{"a":' + b"9" * 5000 + b"}", "it is not JSON"),
    "large": (b" " * (2**20 + 1), "it is larger than 1048576 bytes"),
}


@pytest.mark.parametrize("case", MALFORMED)
@pytest.mark.parametrize("policy", ["require", "warn"])
def test_malformed_signature_is_refused_in_one_line(house: House, case: str, policy: str) -> None:
    content, message = MALFORMED[case]
    (path,) = (house.artifact / "signatures").iterdir()
    path.write_bytes(content)
    with pytest.raises(UntrustedError, match=message) as caught:
        house.check(f"policy: {policy}\n{FIRST}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def set_base64(text: str) -> Callable[[dict[str, Any]], object]:
    return lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig=text)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda b: b.update(extra=1), "extra: unknown key"),
        (lambda b: b.update(mediaType="text"), "mediaType"),
        (lambda b: b["verificationMaterial"].pop("publicKey"), "expected one of the two"),
        (lambda b: b["verificationMaterial"].update(tlogEntries=["a"]), "tlogEntries"),
        (lambda b: b["dsseEnvelope"].update(payloadType="text"), "payloadType"),
        (lambda b: b["dsseEnvelope"].update(signatures=[]), "signatures"),
        (lambda b: b["dsseEnvelope"]["signatures"][0].update(keyid="a"), "keyid"),
        (lambda b: b["dsseEnvelope"]["signatures"].append({"sig": "", "keyid": ""}), "signatures"),
        (set_base64(""), "it was changed"),
        (set_base64("%"), "it is not base64"),
        (set_base64("AAA"), "it is not base64"),
        (set_base64("AB=="), "its base64 is not written as the tools write it"),
        (set_base64("AA==\n"), "it is not base64"),
        (lambda b: b["dsseEnvelope"].update(payload="e30="), "it was changed"),
    ],
)
def test_changed_bundle_is_refused(
    house: House, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    rewrite(house, edit)
    with pytest.raises(UntrustedError, match=message):
        house.check(FIRST)


def sign_statement(house: House, edit: Callable[[dict[str, Any]], object]) -> None:
    """Has the owner of the first key sign an edited statement."""
    key = serialization.load_pem_private_key((house.folder / "first").read_bytes(), None)

    def replace(bundle: dict[str, Any]) -> None:
        envelope = bundle["dsseEnvelope"]
        statement = json.loads(base64.b64decode(envelope["payload"]))
        edit(statement)
        payload = json.dumps(statement).encode()
        signed = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
        envelope["payload"] = base64.b64encode(payload).decode()
        envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()

    rewrite(house, replace)


def set_resources(statement: dict[str, Any], resources: list[dict[str, str]]) -> None:
    statement["predicate"]["resources"] = resources
    digests = b"".join(bytes.fromhex(resource["digest"]) for resource in resources)
    statement["subject"][0]["digest"] = {"sha256": hashlib.sha256(digests).hexdigest()}


def drop(name: str) -> Callable[[dict[str, Any]], object]:
    def edit(statement: dict[str, Any]) -> None:
        kept = [r for r in statement["predicate"]["resources"] if r["name"] != name]
        set_resources(statement, kept)

    return edit


def add(name: str, digest: str = "0" * 64) -> Callable[[dict[str, Any]], object]:
    def edit(statement: dict[str, Any]) -> None:
        resource = {"name": name, "algorithm": "sha256", "digest": digest}
        set_resources(statement, [*statement["predicate"]["resources"], resource])

    return edit


def serialization_of(**fields: object) -> Callable[[dict[str, Any]], object]:
    return lambda statement: statement["predicate"]["serialization"].update(fields)


def test_statement_that_is_signed_anew_passes(house: House) -> None:
    sign_statement(house, lambda statement: None)
    assert house.check(FIRST).signers


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (drop("model.safetensors"), r"who signed left out model\.safetensors"),
        (drop("artifact.pb"), r"who signed left out artifact\.pb"),
        (drop("artifact.pb.sha256"), r"who signed left out artifact\.pb\.sha256"),
        (drop("README.md"), r"who signed left out README\.md"),
        (add("other"), "who signed saw files that are not there: other"),
        (add("README.md"), "names a file twice"),
        (add("./README.md"), r"files that are not there: \./README\.md"),
        (serialization_of(ignore_paths=["signatures", "README.md"]), "left out 'README.md'"),
        (serialization_of(ignore_paths=["."]), "left out '.'"),
        (serialization_of(ignore_paths=["../signatures"]), r"left out '\.\./signatures'"),
        (serialization_of(method="shards"), "signed by shards"),
        (serialization_of(hash_type="blake2b"), "blake2b, sha256; expected SHA-256 of whole"),
        (serialization_of(allow_symlinks=True), "following links"),
        (lambda s: s["subject"][0].update(digest={"sha256": "0" * 64}), "digest as a whole"),
        (lambda s: s["subject"].append(s["subject"][0]), "no statement of model signing"),
        (lambda s: s.update(predicateType="https://model_signing/Digests/v0.1"), "no statement"),
        (lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"), "no statement"),
        (lambda s: set_resources(s, []), "who signed left out README.md, artifact.pb, "),
        (lambda s: s["predicate"].update(resources=[]), "another digest as a whole"),
        (lambda s: s["predicate"]["resources"][0].update(digest="00"), "no statement"),
    ],
)
@pytest.mark.parametrize("policy", ["require", "warn"])
def test_statement_of_a_trusted_key_about_something_else_is_refused(
    house: House, edit: Callable[[dict[str, Any]], object], message: str, policy: str
) -> None:
    sign_statement(house, edit)
    with pytest.raises(UntrustedError, match=message):
        house.check(f"policy: {policy}\n{FIRST}")


@pytest.mark.parametrize("name", ["0123456789abcdef.sig", "x.sig", "0123456789abcdef.txt"])
def test_signature_under_another_name_is_refused(house: House, name: str) -> None:
    (path,) = (house.artifact / "signatures").iterdir()
    path.rename(path.with_name(name))
    with pytest.raises(ArtifactError, match="which its name does not|does not list|expected names"):
        house.check(FIRST)


def test_weights_are_not_read(house: House) -> None:
    weights = house.artifact / "model.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    assert house.check(FIRST).signers
    with pytest.raises(ArtifactError, match=r"model\.safetensors is corrupt"):
        load(house.artifact)


def test_descriptor_that_was_edited_with_its_digest_is_refused(house: House) -> None:
    artifact = artifact_pb2.Artifact.FromString((house.artifact / "artifact.pb").read_bytes())
    artifact.metrics["accuracy"] = 1
    content = artifact.SerializeToString(deterministic=True)
    (house.artifact / "artifact.pb").write_bytes(content)
    line = f"{hashlib.sha256(content).hexdigest()}  artifact.pb\n"
    (house.artifact / "artifact.pb.sha256").write_text(line)
    load(house.artifact)  # nobody without a key could tell
    with pytest.raises(UntrustedError, match="saw another content of artifact.pb"):
        house.check(FIRST)
