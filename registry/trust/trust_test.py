"""Whom a user trusts is read strictly, and the policy is not off by accident."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from registry.errors import TrustError
from registry.trust.signing import generate_key_pair
from registry.trust.testing.identities import issue, write_certificate
from registry.trust.trust import Trust, find_trust, load_trust

DIGEST = "5f" * 32


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with keys and certificates, and an environment that names no trust root."""
    generate_key_pair(tmp_path / "key")
    root = issue("root", authority=True)
    write_certificate(tmp_path / "root.pem", root)
    write_certificate(tmp_path / "leaf.pem", issue("leaf", root))
    for name in ("HPC_TRUST", "XDG_CONFIG_HOME", "BUILD_WORKING_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def trust_file(folder: Path, text: str) -> Path:
    """A trust root with this text."""
    (folder / "trust.yaml").write_text(text)
    return folder / "trust.yaml"


def test_everything_is_read(folder: Path) -> None:
    text = f"""
policy: warn
keys:
  - file: key.pub
    not_before: 2026-01-01
    not_after: 2026-06-30T12:00:00+02:00
    comment: the build machine
certificates:
  - file: root.pem
    subjects: [CN=release]
revoked:
  - key: {DIGEST}
    reason: lost
  - artifact: {"a0" * 32}
"""
    trust = load_trust(trust_file(folder, text))
    (key,) = trust.keys.values()
    assert (trust.policy, key.name, key.comment) == ("warn", "key.pub", "the build machine")
    assert key.not_before == datetime(2026, 1, 1, tzinfo=UTC)
    assert key.not_after == datetime(2026, 6, 30, 10, tzinfo=UTC)
    assert trust.keys.keys() == {key.fingerprint}
    (authority,) = trust.authorities
    assert authority.subjects == {"CN=release"}
    assert trust.revoked == {("key", DIGEST): "lost", ("artifact", "a0" * 32): ""}


def test_policy_is_require_as_soon_as_there_is_a_trust_root(folder: Path) -> None:
    assert find_trust() == Trust(policy="off")
    assert load_trust(trust_file(folder, "keys: [{file: key.pub}]")).policy == "require"


@pytest.mark.parametrize("place", ["argument", "HPC_TRUST", "XDG_CONFIG_HOME", "HOME"])
def test_trust_root_is_found(folder: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {
        "argument": folder / "trust.yaml",
        "HPC_TRUST": folder / "trust.yaml",
        "XDG_CONFIG_HOME": folder / "config" / "hpc" / "trust.yaml",
        "HOME": folder / "home" / ".config" / "hpc" / "trust.yaml",
    }
    file = places[place]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"keys: [{{file: {folder / 'key.pub'}}}]")
    values = {"HPC_TRUST": str(file), "XDG_CONFIG_HOME": str(folder / "config")}
    if place in values:
        monkeypatch.setenv(place, values[place])
    found = find_trust(file if place == "argument" else None)
    assert (found.file, found.policy) == (file, "require")


def test_trust_root_that_is_named_and_absent_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrustError, match="cannot read .*absent: No such file"):
        find_trust(folder / "absent")
    monkeypatch.setenv("HPC_TRUST", str(folder / "absent"))
    with pytest.raises(TrustError, match="cannot read .*absent: No such file"):
        find_trust()
    monkeypatch.setenv("HPC_TRUST", "")  # as an unset variable
    assert find_trust().policy == "off"
    usual = folder / "home" / ".config" / "hpc" / "trust.yaml"
    usual.parent.mkdir(parents=True)
    usual.symlink_to("nowhere")
    with pytest.raises(TrustError, match="trust root .*No such file"):
        find_trust()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "policy require with neither keys nor certificates lets nothing pass"),
        ("policy: require", "policy require with neither keys nor certificates"),
        ("[]", r"expected a section of keys, got \[\]"),
        ("keys: [", "not valid YAML"),
        ("policy: maybe\nkeys: [{file: key.pub}]", "policy: .*'require', 'warn' or 'off'"),
        ("kyes: []", "kyes: unknown key, did you mean 'keys'"),
        ("keys: key.pub", "keys: expected a list"),
        ("keys: [key.pub]", r"keys\.0: expected a section of keys"),
        ("keys: [{}]", r"keys\.0\.file: missing, but required"),
        ("keys: [{file: ''}]", r"keys\.0\.file"),
        ("keys: [{file: key.pub, expires: 1}]", r"keys\.0\.expires: unknown key"),
        ("keys: [{file: key.pub, not_after: 1}]", r"keys\.0\.not_after: expected a day"),
        ("keys: [{file: key.pub, not_after: soon}]", r"keys\.0\.not_after: expected a day"),
        ("keys: [{file: key.pub, not_after: 2026-11-29T12:00:00}]", "expected a day such as"),
        (
            "keys: [{file: key.pub, not_before: 2027-01-01, not_after: 2026-01-01}]",
            r"keys\.0: not_after is not later than not_before",
        ),
        ("keys: [{file: absent.pub}]", r"absent\.pub: no key or certificate can be read there"),
        ("keys: [{file: .}]", "it is not a plain file"),
        ("keys: [{file: trust.yaml}]", "is no public key in PEM"),
        ("keys: [{file: key.pub}, {file: key.pub}]", "one key is listed twice"),
        ("certificates: [{file: key.pub}]", "holds no certificate in PEM"),
        ("certificates: [{file: authority.pem, subjects: []}]", r"certificates\.0\.subjects"),
        ("certificates: [{file: leaf.pem}]", "CN=leaf is no authority's certificate"),
        ("policy: off\nrevoked: [{key: ABC}]", r"revoked\.0\.key"),
        ("policy: off\nrevoked: [{}]", r"revoked\.0: expected one of key, certificate and"),
        (
            f"policy: off\nrevoked: [{{key: {DIGEST}, artifact: {DIGEST}}}]",
            r"revoked\.0: expected one of",
        ),
    ],
)
def test_other_trust_root_is_refused_in_one_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(TrustError, match=message) as caught:
        load_trust(trust_file(folder, text))
    assert "\n" not in str(caught.value)


def test_keys_may_be_links(folder: Path) -> None:
    """As mounted secrets are."""
    (folder / "link.pub").symlink_to("key.pub")
    assert load_trust(trust_file(folder, "keys: [{file: link.pub}]")).keys
