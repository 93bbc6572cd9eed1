"""What cannot be a Redis is told before anything is started."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from base.config import explain
from serving.core.redis_config import RedisConfig, password_of
from serving.errors import StartError


def test_a_password_that_cannot_be_read_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff")
    # Relative to where the command was called, as every path of a user.
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    for name, reason in {"absent": "No such file or directory", "bytes": "it is no text"}.items():
        config = RedisConfig(url="redis://127.0.0.1:1", password_file=name)
        with pytest.raises(StartError) as raised:
            password_of(config)
        expected = f"redis.password_file: cannot read {tmp_path / name}: {reason}"
        assert str(raised.value) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://:secret@host:1/0", "use password_file"),
        ("http://host", "expected a URL that begins with redis, rediss, unix and ://, got 'http"),
        ("host:6379", "expected a URL that begins with"),
        ("redis://host:99999/0", "leads to no Redis: Port out of range 0-65535"),
        ("redis://host:1/first", "expected the number of a database at the end, got 'redis://host"),
        ("redis://host:1?db=first", "leads to no Redis: Invalid value for 'db'"),
    ],
)
def test_urls_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        RedisConfig(url=url)
    (line,) = explain(raised.value, RedisConfig)
    assert line.startswith("url: ")
    assert message in line
    assert "secret" not in line
