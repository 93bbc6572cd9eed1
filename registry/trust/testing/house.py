"""An artifact with keys that sign it and a trust root, for tests."""

import hashlib
from datetime import datetime
from pathlib import Path

from registry.artifact import publish, read_descriptor
from registry.example import example_artifact, example_tensors
from registry.trust.signing import Signer, generate_key_pair, sign_directory
from registry.trust.testing.identities import NOW
from registry.trust.trust import Trust, load_trust
from registry.trust.verification import Verification, check_artifact


class House:
    """An artifact, two keys, and a trust root that a test writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.artifact = folder / "artifact"
        publish(self.artifact, example_artifact(), example_tensors(), {"README.md": b"# digits"})
        for name in ("first", "second"):
            generate_key_pair(folder / name)

    def sign(self, name: str = "first", directory: Path | None = None) -> Path:
        """Signs an artifact by a key."""
        return sign_directory(directory or self.artifact, Signer.read(self.folder / name))

    def fingerprint(self, name: str) -> str:
        """Of a key, as `sha256sum` prints it."""
        return hashlib.sha256((self.folder / f"{name}.pub").read_bytes()).hexdigest()

    def check(self, text: str, now: datetime = NOW, directory: Path | None = None) -> Verification:
        """Asks about the artifact by a trust root with this text."""
        return check_artifact(read_descriptor(directory or self.artifact), self.trust(text), now)

    def trust(self, text: str) -> Trust:
        """Whom a trust root with this text trusts."""
        (self.folder / "trust.yaml").write_text(text)
        return load_trust(self.folder / "trust.yaml")
