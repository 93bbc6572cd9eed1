"""All that the gateway's section holds can be said on its command line, in the section's words."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from serving.command_line import accepted, command_of, flag
from serving.config import GatewayConfig

# For each field an option and what it means, none of them the default.
GIVEN: dict[str, tuple[list[str], object]] = {
    "artifact": (["--artifact", "/absent"], Path("/absent")),
    "host": (["--host", "::1"], "::1"),
    "port": (["--port", "0"], 0),
    "framework": (["--framework", "torch"], "torch"),
    "replicas": (["--replicas", "2"], 2),
    "insecure_bind": (["--insecure-bind"], True),
    "max_batch_size": (["--max-batch-size", "8"], 8),
    "max_message_bytes": (["--max-message-bytes", "4096"], 4096),
    "timeout_s": (["--timeout-s", "1"], 1.0),
    "drain_s": (["--drain-s", "0.5"], 0.5),
}


def run(*arguments: str) -> tuple[str, GatewayConfig | None]:
    """What a program with the gateway's command line prints, and the section it gets."""
    got = []

    def program(config: GatewayConfig) -> None:
        """Do as told."""
        got.append(config)

    app = typer.Typer(add_completion=False)
    app.command()(command_of(GatewayConfig, program))
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    return result.output, got[0] if got else None


def test_each_field_has_an_option() -> None:
    assert GIVEN.keys() == GatewayConfig.model_fields.keys()
    _, config = run(*(word for words, _ in GIVEN.values() for word in words))
    assert config is not None
    assert dict(config) == {name: value for name, (_, value) in GIVEN.items()}


def test_defaults_are_those_of_the_section() -> None:
    assert run("--artifact", "/absent")[1] == GatewayConfig(artifact=Path("/absent"))


@pytest.mark.parametrize("name", GatewayConfig.model_fields)
def test_help_says_what_it_is_and_what_is_accepted(name: str) -> None:
    output, _ = run("--help")
    assert "Do as told." in output
    (line,) = (line for line in output.splitlines() if f" {flag(name)} " in line)
    description = GatewayConfig.model_fields[name].description
    assert description
    assert description in line
    assert accepted(GatewayConfig, name) in line


def test_accepted_values_are_in_words() -> None:
    assert accepted(GatewayConfig, "replicas") == "1 to 64"
    assert accepted(GatewayConfig, "framework") == "flax or torch"
    assert accepted(GatewayConfig, "timeout_s") == "more than 0, at most 86,400"
    assert accepted(GatewayConfig, "host") == ""


def test_refusal_names_the_option() -> None:
    output, config = run("--artifact", "/absent", "--max-batch-size", "0", "--port", "-1")
    assert config is None
    assert output == (
        "error: --port: input should be greater than or equal to 0, got -1; "
        "--max-batch-size: input should be greater than or equal to 1, got 0\n"
    )
