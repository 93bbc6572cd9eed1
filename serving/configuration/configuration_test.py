"""What a gateway is told by a file and by options, and what it answers to what makes no sense."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from base.config_reference import Leaf
from serving.configuration.command import config_of, flag, own_parts
from serving.configuration.schema import ServeConfig

LEAVES = [leaf for part in own_parts() for leaf in part.leaves]

# Values other than the default, of keys of which not every value goes with the rest, and what has
# to be said beside them.
FITTING: dict[str, tuple[Any, dict[str, Any]]] = {
    "framework": ("torch", {}),
    "host": ("localhost", {}),
    "http_port": (0, {}),
    "redis.url": ("redis://localhost:1/0", {"cache.enabled": True}),
    "queue.default_priority": (3, {}),
    "concurrency.initial_limit": (300, {}),
    "ray.ray_address": ("auto", {}),
}


def run(*arguments: str) -> ServeConfig:
    return config_of(arguments, program="//serving:up", documentation="Serve.")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of arguments that are refused: one line."""
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error.removeprefix("error: ").rstrip("\n")


def value_of(config: ServeConfig, path: str) -> Any:
    value: Any = config
    for key in path.split("."):
        value = getattr(value, key)
    return value


def another(leaf: Leaf) -> Any:
    """A value that a key takes and that is not its default."""
    default = None if leaf.default is None else _read(leaf.default)
    kinds = [leaf.field.annotation, *get_args(leaf.field.annotation)]
    words = [word for word in get_args(leaf.field.annotation) if isinstance(word, str)]
    if words:
        return next(word for word in words if word != default)
    if isinstance(default, bool):
        return not default
    if int in kinds or float in kinds:
        if int in kinds:
            return 1 if default is None else default + 1
        return 0.75 if default is None or leaf.accepted.endswith("to 1") else default * 1.5 or 0.5
    return f"/a/{leaf.name}"


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.path)
def test_each_key_is_one_of_a_file_and_an_option(leaf: Leaf, tmp_path: Path) -> None:
    value, beside = FITTING.get(leaf.path, (another(leaf), {}))
    assert value != value_of(run("--model", "digits"), leaf.path)
    arguments = ["--model", "digits"]
    content: dict[str, Any] = {"models": ["digits"]}
    for path, said in {**beside, leaf.path: value}.items():
        section, _, key = path.rpartition(".")
        (content.setdefault(section, {}) if section else content)[key] = said
        if isinstance(said, bool):
            arguments.append(flag(path) if said else flag(path).replace("--", "--no-"))
        else:
            arguments += [flag(path), str(said)]
    (tmp_path / "serve.yaml").write_text(json.dumps(content))  # which is YAML, too
    by_option, by_file = run(*arguments), run("--config", str(tmp_path / "serve.yaml"))
    assert value_of(by_option, leaf.path) == value
    assert by_option == by_file


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.path)
def test_each_key_is_described_and_its_numbers_are_limited(leaf: Leaf) -> None:
    assert leaf.description[:1].isupper() or leaf.description.startswith("redis://")
    assert not leaf.accepted.startswith(("integer,", "number,"))
    assert leaf.accepted not in ("integer", "number")


def test_options_count_before_the_file_and_the_file_before_defaults(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(
        "models: [digits@champion, bytes]\nreplicas: 2\nqueue: {max_requests: 7, max_bytes: 2048}\n"
        "cache: {enabled: true}\nframework: torch\n"
    )
    config = run("--config", str(file), "--queue.max-requests", "8", "--framework", "null")
    assert (config.queue.max_requests, config.queue.max_bytes) == (8, 2048)
    assert (config.replicas, config.framework, config.grpc_port) == (2, None, 8001)
    assert config.cache.enabled
    assert not run("--config", str(file), "--no-cache.enabled").cache.enabled
    assert [model.reference for model in config.models] == ["digits@champion", "bytes"]
    named = run("--config", str(file), "--model", "a", "--model", "./b")
    assert [model.reference for model in named.models] == ["a", "./b"]


def test_a_file_is_where_its_user_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "serve.yaml").write_text("models: [digits]\n")
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    assert run("--config", "serve.yaml").models[0].reference == "digits"


def test_a_model_has_its_own_and_otherwise_what_holds_for_all() -> None:
    own = "{reference: bytes:1, name: text, replicas: 2, queue: {max_requests: 64}}"
    config = run(
        "--model", own, "--model", "digits", "--replicas", "3", "--queue.max-bytes", "4096"
    )
    text, digits = (config.of_model(model) for model in config.models)
    assert (text.reference, text.name) == ("bytes:1", "text")
    assert (text.replicas, text.queue.max_requests, text.queue.max_bytes) == (2, 64, 4096)
    assert (digits.reference, digits.name) == ("digits", None)
    assert (digits.replicas, digits.queue.max_requests, digits.queue.max_bytes) == (3, 1024, 4096)
    assert digits.breaker == config.breaker


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "models: [digits]\nqueue: {max_request: 5}",
            "queue.max_request: unknown key, did you mean",
        ),
        ("models: [digits]\nreplica: 5", "replica: unknown key, did you mean 'replicas'?"),
        (
            "models: [digits]\nreplicas: 0",
            "replicas: input should be greater than or equal to 1, g",
        ),
        ("models: [digits]\nreplicas: '2'", "replicas: input should be a valid integer, got '2'"),
        ("models: [digits]\nqueue: 5", "queue: expected a section of keys, got 5"),
        ("models: digits", "models: expected a list, got 'digits'"),
        (
            "models: []",
            "models: there is none; name one, such as --model digits@champion or --model",
        ),
        (
            "models: [Digits]",
            "models.0.reference: 'Digits' is no reference: 'Digits' can be no mod",
        ),
        (
            "models: ['']",
            "models.0.reference: expected a reference such as digits@champion, or a d",
        ),
        ("models: [{reference: a, name: A}]", "models.0.name: expected at most 63 lower-case lett"),
        ("models: [a, b, a]", "models: 'a' is there twice"),
        ("models: [{name: a}]", "models.0.reference: missing, but required"),
        ("models: [{reference: a, registry: b}]", "models.0.registry: unknown key"),
        ("models: [digits]\nreplicas: 1\nreplicas: 2", "key 'replicas' is given twice"),
        ("models: [digits]\nhttp_port: 8001", "http_port: 8001 is grpc_port already; give another"),
        ("models: [digits]\nredis: {url: 'redis://h'}", "redis.url: there is no cache to share; s"),
        ("models: [digits]\nhost: a.invalid", "host: 'a.invalid' is no address, and no name that"),
        (
            "models: [{reference: a, queue: {default_priority: 3}}]\nqueue: {priority_levels: 2}",
            "models.0, with what holds for all: queue: default_priority 3 is above priority_lev",
        ),
        ("- models", "holds no sections; expected"),
        ("models: [", "not valid YAML"),
    ],
)
def test_a_file_that_is_refused_is_named_with_the_key(
    content: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(content)
    said = refusal(capsys, "--config", str(file))
    assert said.startswith(str(file))
    assert words in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "models: there is none; name one, such as --model digits@champion or --model ./artif"),
        (["--queue.max-requests", "x"], "--queue.max-requests: input should be a valid integer, g"),
        (["--replicas", "[1"], "--replicas: not valid YAML"),
        (["--framework", "jax"], "--framework: input should be 'flax' or 'torch', got 'jax'"),
        (
            ["--qeue.max-requests", "5"],
            "unknown option --qeue.max-requests, did you mean --queue.m",
        ),
        (["--zzz"], "unknown option --zzz; --help lists the options"),
        (["--artifact", "x"], "unknown option --artifact, did you mean --model?"),
        (["--grpc-port="], "--grpc-port: expected integer from 0 to 65,535, got ''"),
        (["digits@champion"], "unexpected argument 'digits@champion'; name a model by --model dig"),
        (["--replicas"], "argument --replicas: expected one argument; --help lists the options"),
        (["--model", "{reference"], "--model: not valid YAML"),
        (["--model", "{refrence: a}"], "--model: reference: missing, but required; --model: refre"),
        (["--model", "A"], "--model: reference: 'A' is no reference: 'A' can be no model's name;"),
        (["--config", ""], "--config: expected the path of a YAML file, got ''"),
        (["--config", "/absent.yaml"], "cannot read /absent.yaml: No such file or directory"),
        (["--host", ""], "--host: '' is no address"),
        (["--host", "nonsense.invalid"], "--host: 'nonsense.invalid' is no address, and no name"),
        (["--host", "192.0.2.1"], "--host: '192.0.2.1' is no address of this machine; expected o"),
        (["--host", "0.0.0.0"], "--host: '0.0.0.0' can be reached from other machines, and traffi"),
        (["--host", "::"], "--host: '::' can be reached from other machines, and traffic is not e"),
    ],
)
def test_options_that_are_refused_are_named(
    arguments: Sequence[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    has_model = not arguments or "--model" in arguments
    said = refusal(capsys, *([] if has_model else ["--model", "digits"]), *arguments)
    assert said.startswith(words)


def test_all_that_is_wrong_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, "--model", "A", "--replicas", "0", "--log.level", "loud")
    assert said.startswith("--replicas: input should be")
    assert "; --model: reference: 'A' is no reference" in said
    assert "; --log.level: input should be 'debug'" in said


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.8.9.1"])
def test_loopback_is_taken(host: str) -> None:
    assert run("--model", "digits", "--host", host).host == host


def test_another_address_is_taken_if_that_is_meant() -> None:
    assert run("--model", "digits", "--host", "0.0.0.0", "--insecure-bind").insecure_bind


def test_without_models_clients_can_load_some() -> None:
    assert run("--allow-model-control").models == ()


def test_help_calls_the_program_by_its_name_and_says_all_of_every_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        run("--help")
    assert end.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("usage: //serving:up --model REFERENCE [OPTIONS] Serve. ")
    for leaf in LEAVES:
        option = flag(leaf.path)
        is_switch = leaf.accepted == "boolean"
        written = f"{option}, --no-{option[2:]}" if is_switch else f"{option} VALUE"
        accepted = "" if is_switch else f"; {leaf.accepted}"
        said = f"{written} {leaf.description}{accepted} (default: {leaf.default})"
        # Long words are broken after a hyphen.
        assert said.replace(" ", "") in out.replace(" ", "")


def test_what_is_wrong_is_said_before_anything_heavy_is_imported() -> None:
    program = "from serving.configuration.command import config_of\n"
    program += "config_of(['--model', 'A'], program='p', documentation='d')"
    command = [sys.executable, "-X", "importtime", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "pydantic" in imported
    assert not imported & {"ray", "jax", "torch", "flax", "grpc", "aiohttp"}
