"""Where a Redis is, and how it is used."""

from urllib.parse import urlsplit

from pydantic import Field, field_validator
from redis.asyncio.connection import parse_url

from base.config import Section
from base.program import from_user
from serving.errors import StartError

_SCHEMES = ("redis", "rediss", "unix")


class RedisConfig(Section):
    """The Redis that gateways share answers through."""

    url: str | None = Field(
        default=None,
        description="redis://HOST:PORT/DATABASE, rediss://... for TLS or unix:///PATH; by default "
        "answers are not shared",
    )
    password_file: str | None = Field(
        default=None, description="File that holds the password and nothing else"
    )
    timeout_s: float = Field(
        default=0.02,
        gt=0,
        le=10,
        description="What is not there by then is computed, seconds",
    )
    max_value_bytes: int = Field(
        default=2**20, ge=1, le=2**29, description="Larger answers are not shared"
    )
    prefix: str = Field(
        default="hpc", max_length=200, description="Of all keys, for a Redis with other users"
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.password is not None:
                raise ValueError("a URL with a password can be read by others; use password_file")
            if parts.scheme not in _SCHEMES:
                raise ValueError(
                    f"expected a URL that begins with {', '.join(_SCHEMES)} and ://, got {url!r}"
                )
            try:
                parse_url(url)
            except ValueError as error:
                raise ValueError(f"{url!r} leads to no Redis: {error}") from error
            # Which would mean database 0.
            database = parts.path.strip("/")
            if parts.scheme != "unix" and database and not database.isdecimal():
                raise ValueError(f"expected the number of a database at the end, got {url!r}")
        return url


def password_of(config: RedisConfig) -> str | None:
    """Returns the password, if there is one.

    Raises:
        StartError: Its file cannot be read.
    """
    if config.password_file is None:
        return None
    path = from_user(config.password_file)
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise StartError(f"redis.password_file: cannot read {path}: {reason}") from error
