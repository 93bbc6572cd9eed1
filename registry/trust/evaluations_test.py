"""An evaluation is signed and trusted as an artifact is."""

from pathlib import Path

import pytest

from registry.errors import UntrustedError
from registry.evaluation_example import write_example
from registry.evaluations import read_evaluation
from registry.trust.signing import Signer, generate_key_pair, sign_directory
from registry.trust.trust import load_trust
from registry.trust.verification import check_evaluation


def test_evaluation_is_signed_and_trusted(tmp_path: Path) -> None:
    generate_key_pair(tmp_path / "key")
    (tmp_path / "trust.yaml").write_text("keys: [{file: key.pub}]")
    trust = load_trust(tmp_path / "trust.yaml")
    write_example(tmp_path / "evaluation")
    with pytest.raises(UntrustedError, match="it has no signature"):
        check_evaluation(read_evaluation(tmp_path / "evaluation"), trust)

    signature = sign_directory(tmp_path / "evaluation", Signer.read(tmp_path / "key"))
    stored = read_evaluation(tmp_path / "evaluation")
    assert [signer.name for signer in check_evaluation(stored, trust).signers] == ["key.pub"]

    write_example(tmp_path / "other", seed=1)
    (tmp_path / "other" / "signatures").mkdir()
    (tmp_path / "other" / "signatures" / signature.name).write_bytes(signature.read_bytes())
    with pytest.raises(UntrustedError, match=r"saw another content of evaluation\.pb"):
        check_evaluation(read_evaluation(tmp_path / "other"), trust)
