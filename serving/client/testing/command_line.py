"""The command line as a test runs it, and a server that is not there."""

import socket
from pathlib import Path

from typer.testing import CliRunner, Result

from serving.client.commands.app import make_app


def run(*arguments: str | Path, stdin: bytes = b"") -> Result:
    """Runs a command in this process."""
    return CliRunner().invoke(make_app(), [str(argument) for argument in arguments], input=stdin)


def only_error(result: Result, status: int) -> str:
    """The one line on stderr of a command that ended with `status`, and printed nothing else."""
    assert (result.exit_code, result.stdout) == (status, ""), result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").rstrip()


def free_address() -> str:
    """Where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
