"""`hpc` does what docs/registry.md says, on a registry of small artifacts."""

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from registry.artifact import load, publish
from registry.commands.app import app_with
from registry.evaluation_example import write_example
from registry.evaluations import read_evaluation
from registry.example import example_artifact, example_tensors
from registry.store.store import open_store
from registry.trust.trust import load_trust
from registry.trust.verification import check_evaluation

APP = app_with({})


class Hpc:
    """Runs commands on one registry."""

    def __init__(self, directory: Path):
        self.directory = directory

    def __call__(self, *arguments: object, status: int = 0) -> Result:
        result = CliRunner().invoke(APP, [str(argument) for argument in arguments])
        assert result.exit_code == status, result.output + str(result.exception)
        return result

    def json(self, *arguments: object, status: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", status=status).stdout)

    def artifact(self, version: str, num_classes: int = 10, **metrics: float) -> Path:
        """Makes the directory of an artifact."""
        directory = self.directory / f"{version}-{num_classes}"
        artifact = example_artifact()
        artifact.version = version
        artifact.outputs[0].shape[1] = num_classes
        artifact.metrics.update(metrics)
        publish(directory, artifact, example_tensors())
        return directory


@pytest.fixture
def hpc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hpc:
    monkeypatch.setenv("HPC_REGISTRY", str(tmp_path / "registry"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    for name in ("HPC_TRUST", "HPC_SIGNING_KEY"):
        monkeypatch.delenv(name, raising=False)
    return Hpc(tmp_path)


@pytest.fixture
def two(hpc: Hpc) -> Hpc:
    """A registry with digits 1.0.0 and 1.1.0."""
    hpc("publish", hpc.artifact("1.0.0"))
    hpc("publish", hpc.artifact("1.1.0", accuracy=0.98))
    return hpc


def test_every_command_has_json_and_help(hpc: Hpc) -> None:
    commands = "list show publish verify sign alias promote compare export import gc log"
    for command in commands.split():
        told = hpc(command, "--help").stdout
        assert "--json" in told
        assert "--registry" in told


def test_registry_that_is_not_there_is_said_to_be(hpc: Hpc) -> None:
    assert "there is no store at" in hpc("list", status=2).stderr


def test_lists_models_and_versions(two: Hpc) -> None:
    (model,) = two.json("list")
    assert (model["name"], model["newest"], model["num_versions"]) == ("digits", "1.1.0", 2)
    newest, older = two.json("list", "digits")
    assert (newest["version"], older["version"]) == ("1.1.0", "1.0.0")
    assert newest["metrics"]["accuracy"] == 0.98
    assert newest["architecture"] == "mlp"
    line = next(line for line in two("list", "digits").stdout.splitlines() if "1.1.0" in line)
    assert "accuracy 0.98" in line and newest["digest"][:12] in line


def test_one_damaged_model_hides_no_other(two: Hpc) -> None:
    publish(two.directory / "letters", _changed(name="letters"), example_tensors())
    two("publish", "./letters")
    record = two.directory / "registry" / "models" / "digits" / "versions" / "1.0.0.json"
    record.chmod(0o644)
    record.write_text("{")
    digits, letters = two.json("list")
    assert "1.0.0.json" in digits["error"]
    assert letters["newest"] == "1.0.0"
    assert "1.0.0.json" in two("list").stdout


@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("digits", "1.1.0"),
        ("digits:1", "1.1.0"),
        ("digits:1.0", "1.0.0"),
        ("digits:1.0.0", "1.0.0"),
        ("digits@old", "1.0.0"),
        ("sha256", "1.0.0"),
        ("path", "1.0.0"),
    ],
)
@pytest.mark.parametrize("command", ["show", "verify"])
def test_references_mean_the_same_everywhere(
    two: Hpc, reference: str, version: str, command: str
) -> None:
    two("alias", "digits@old", "digits:1.0.0")
    directory = two.directory / "1.0.0-10"
    digest = load(directory).digest
    spelled = {"sha256": f"sha256:{digest[:16]}", "path": str(directory)}.get(reference, reference)
    assert two.json(command, spelled)["version"] == version


def test_directory_here_needs_a_slash(two: Hpc) -> None:
    told = two("show", "1.0.0-10", status=2).stderr
    assert "./1.0.0-10" in told
    two("show", "./1.0.0-10")


def test_publishes_a_run_under_the_next_version(two: Hpc) -> None:
    run = two.directory / "run"
    run.mkdir()
    publish(run / "artifact", _changed(), example_tensors())
    assert two.json("publish", run, "--bump", "minor")["version"] == "1.2.0"
    assert two.json("publish", run, "--bump", "patch", "--alias", "candidate")["version"] == "1.2.1"
    assert two.json("show", "digits@candidate")["version"] == "1.2.1"


def test_changed_signature_needs_a_new_major_version(two: Hpc) -> None:
    told = two("publish", two.artifact("1.2.0", num_classes=11), status=2).stderr
    assert "2.0.0" in told or "major" in told
    two("publish", two.artifact("2.0.0", num_classes=11))


def test_versions_never_change(two: Hpc) -> None:
    publish(two.directory / "other", _changed(version="1.0.0"), example_tensors())
    assert "1.0.0" in two("publish", "./other", status=2).stderr
    two("publish", two.directory / "1.0.0-10")  # the very same is there already


def test_alias_moves_are_logged(two: Hpc) -> None:
    two("alias", "digits@canary", "digits:1.0.0", "--reason", "first try")
    two("alias", "digits@canary", "digits:1.1.0")
    two("alias", "digits@canary", "--remove")
    moves = [event for event in two.json("log", "digits") if event["what"] == "moved"]
    assert [(move["from"], move["to"]) for move in moves] == [
        ("", "1.0.0"),
        ("1.0.0", "1.1.0"),
        ("1.1.0", ""),
    ]
    assert moves[0]["reason"] == "first try" and moves[0]["by"]
    assert "first try" in two("log", "digits").stdout
    two("show", "digits@canary", status=2)


def test_archived_versions_are_not_the_newest(two: Hpc) -> None:
    two("alias", "digits@archived", "digits:1.1.0")
    assert two.json("show", "digits")["version"] == "1.0.0"
    assert two.json("list", "digits")[0]["archived"]
    two("alias", "digits@archived", "digits:1.1.0", "--remove")
    assert two.json("show", "digits")["version"] == "1.1.0"


def test_promotes_by_force_only_with_a_reason(two: Hpc) -> None:
    assert "--gates" in two("promote", "digits:1.0.0", status=2).stderr
    assert "--reason" in two("promote", "digits:1.0.0", "--force", status=2).stderr
    two("promote", "digits:1.0.0", "--force", "--reason", "the first")
    assert two.json("show", "digits@champion")["version"] == "1.0.0"
    move = two.json("log", "digits")[-1]
    assert move["forced"] and move["reason"] == "the first"


def test_gates_that_nothing_was_measured_for_do_not_pass(two: Hpc) -> None:
    gates = two.directory / "gates.yaml"
    gates.write_text("gates:\n  - accuracy >= 0.5\n")
    result = two("promote", "digits:1.0.0", "--gates", gates, status=1)
    assert "unknown" in result.stdout
    two("show", "digits@champion", status=2)


def test_evaluation_of_another_artifact_speaks_for_none(two: Hpc) -> None:
    good, bad = (two.json("show", f"digits:{version}")["digest"] for version in ("1.0.0", "1.1.0"))
    stored = write_example(two.directory / "evaluation", share=1.0, artifact_digest=good)
    open_store(two.directory / "registry").add_evaluation(stored.directory)
    gates = two.directory / "gates.yaml"
    gates.write_text("gates:\n  - accuracy >= 0.5\n")
    below = two.directory / "registry" / "evaluations"
    for place in (f"{bad}/{stored.digest}", f"{good}/{'0' * 64}"):
        copytree(below / good / stored.digest, below / place)
    told = two("promote", "digits:1.1.0", "--gates", gates, status=1)
    assert "unknown" in told.stdout and f"of the artifact {good[:12]}" in told.stderr
    told = two("promote", "digits:1.0.0", "--gates", gates)
    assert "passed" in told.stdout and f"its digest is {stored.digest}" in told.stderr


def test_only_promote_makes_a_champion(two: Hpc) -> None:
    assert "promote" in two("alias", "digits@champion", "digits:1.0.0", status=2).stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--alias", "champion"], "promote"),
        (["--alias", "archived"], "mark"),
        (["--alias", "no alias"], "can be no alias"),
        (["--version", ""], "--version"),
        (["--key", "key.pem", "--chain", "authority.pem"], "--certificate"),
    ],
)
def test_publishes_nothing_that_is_refused_afterwards(
    two: Hpc, options: list[str], told: str
) -> None:
    options = [*options] if "--version" in options else ["--version", "1.2.0", *options]
    assert told in two("publish", "./1.0.0-10", *options, status=2).stderr
    assert [row["version"] for row in two.json("list", "digits")] == ["1.1.0", "1.0.0"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "a" * 5000],
        ["show", "digits:" + "9" * 5000],
        ["publish", "a" * 5000],
        ["list", "--registry", "a" * 5000],
    ],
)
def test_text_that_no_directory_can_be_called_is_one_line(two: Hpc, arguments: list[str]) -> None:
    told = two(*arguments, status=2).stderr
    assert told.startswith("error: ") and told.count("\n") == 1


def test_makes_no_key_for_what_is_not_there(two: Hpc) -> None:
    key = two.directory / "key.pem"
    two("sign", "digits:9", "--new-key", key, status=2)
    two("sign", "digits:1.0.0", "--new-key", key, "--certificate", "leaf.pem", status=2)
    assert not key.exists() and not Path(f"{key}.pub").exists()


def test_signs_and_verifies_by_the_policy(two: Hpc) -> None:
    key = two.directory / "key.pem"
    two("sign", "digits:1.0.0", "--new-key", key)
    trust = two.directory / "config" / "hpc" / "trust.yaml"
    trust.parent.mkdir(parents=True)
    trust.write_text(f"keys:\n  - file: {key}.pub\n")
    assert two.json("verify", "digits:1.0.0")["signers"]
    for command in ("verify", "show"):  # 1.1.0 is not signed
        assert "signature" in two(command, "digits:1.1.0", status=1).stderr
    two("sign", "digits:1.1.0", "--key", key)
    two("verify", "digits:1.1.0")


def test_signs_evaluations_that_were_stored_unsigned(two: Hpc) -> None:
    registry = two.directory / "registry"
    digest = two.json("show", "digits:1.0.0")["digest"]
    stored = write_example(two.directory / "evaluation", artifact_digest=digest)
    open_store(registry).add_evaluation(stored.directory)
    key = two.directory / "key.pem"
    told = two.json("sign", "digits:1.0.0", "--new-key", key, "--evaluations")
    assert told["evaluations"] == [stored.digest]
    two("sign", stored.directory, "--key", key)
    trust = load_trust(_trusting(two.directory, key))
    kept = open_store(registry).fetch_evaluation(digest, stored.digest)
    for directory in (kept, stored.directory):
        assert check_evaluation(read_evaluation(directory), trust).signers
    two("sign", stored.directory, "--key", key, "--evaluations", status=2)


def test_publishes_signed(hpc: Hpc) -> None:
    key = hpc.directory / "key.pem"
    directory = hpc.artifact("1.0.0")
    hpc("sign", directory, "--new-key", key)
    hpc("publish", directory)
    trust = hpc.directory / "trust.yaml"
    trust.write_text(f"keys:\n  - file: {key}.pub\n")
    assert hpc.json("verify", "digits", "--trust", trust)["signers"]


def test_goes_through_an_oci_layout(two: Hpc, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = two.directory / "layout"
    two("export", "digits:1.0.0", layout)
    digest = two.json("show", "digits:1.0.0")["digest"]
    monkeypatch.setenv("HPC_REGISTRY", str(two.directory / "elsewhere"))
    assert two.json("import", layout)["digest"] == digest
    assert two.json("show", "digits")["digest"] == digest
    assert two.json("import", layout, "--to", two.directory / "plain")["digest"] == digest


def test_keeps_nothing_of_an_import_that_nobody_trusted_has_signed(two: Hpc) -> None:
    layout, trust = two.directory / "layout", two.directory / "trust.yaml"
    two("export", "digits:1.0.0", layout)
    two("sign", "digits:1.1.0", "--new-key", two.directory / "key.pem")
    trust.write_text("keys:\n  - file: key.pem.pub\n")
    plain = two.directory / "plain"
    two("import", layout, "--to", plain, "--trust", trust, status=1)
    assert not plain.exists()
    trust.write_text("policy: warn\nkeys:\n  - file: key.pem.pub\n")
    assert "signature" in two("import", layout, "--to", plain, "--trust", trust).stderr


def test_collects_garbage_only_when_told(two: Hpc) -> None:
    assert two.json("gc")["garbage"] == []
    left = two.directory / "registry" / "artifacts" / ("0" * 64)
    left.mkdir()
    (left / "artifact.pb").write_bytes(b"x")
    (item,) = two.json("gc", "--older-than-hours", 0)["garbage"]
    assert "0" * 64 in item["path"] and left.exists()
    assert "would be removed" in two("gc", "--older-than-hours", 0).stdout
    assert two.json("gc", "--older-than-hours", 0, "--yes")["removed"]
    assert not left.exists()
    two("verify", "digits")


def _changed(version: str = "1.0.0", name: str = "digits") -> Any:
    artifact = example_artifact()
    artifact.name, artifact.version = name, version
    artifact.metrics["accuracy"] = 0.5
    return artifact


def _trusting(directory: Path, key: Path) -> Path:
    """Writes a trust root of one key."""
    trust = directory / "trust.yaml"
    trust.write_text(f"keys:\n  - file: {key}.pub\n")
    return trust
