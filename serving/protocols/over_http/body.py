"""Reads the body of a request: counted, inflated, in time, and not too many at once."""

import asyncio
import time
import zlib
from http import HTTPStatus

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from serving.core.errors import Kind, ServingError, invalid
from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.replies import HttpError

Body = bytes | bytearray

# zlib's number for its own format, and for gzip's.
_WINDOWS = {"deflate": zlib.MAX_WBITS, "gzip": 16 + zlib.MAX_WBITS}
_INFLATED_AT_ONCE = 2**18
_ACCEPTED = ", ".join(sorted(_WINDOWS))


class Uploads:
    """Counts the bytes of all bodies that are being read.

    Args:
        max_bytes: of them together. A body that would be one too many is refused.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.bytes = 0

    def check(self, size: int) -> None:
        """Raises ServingError, OVERLOADED, if so many bytes more are too many now."""
        if self.bytes + size > self._max_bytes:
            raise ServingError(
                Kind.OVERLOADED,
                f"bodies of {self.bytes:,} bytes are being read; try again later",
                reason="too_many_uploads",
                retry_after_s=1.0,
            )


async def read_body(
    request: web.BaseRequest, config: HttpConfig, uploads: Uploads, deadline: float
) -> Body:
    """All of the body, inflated if it is compressed.

    Args:
        request: of which it is; nothing of the body was read.
        config: the limits.
        uploads: what else is being read.
        deadline: of `time.monotonic`, when the caller no longer waits.

    Raises:
        ServingError: It is too large, too slow, broken, or one too many now.
        ConnectionError: The client went away.
    """
    content, encoding = request.content, request.headers.get("Content-Encoding", "identity")
    length = request.content_length
    if length is not None and length > config.max_body_bytes:
        raise _too_large(config)
    if encoding == "identity" and content.is_eof():  # as of nearly all requests
        whole = content.read_nowait()
        if len(whole) > config.max_body_bytes:
            raise _too_large(config)
        return whole
    inflater = _inflater(encoding)
    uploads.check(length or 0)
    await _say_continue(request)
    pieces = _Pieces(config, uploads, inflater)
    try:
        await _read(content, pieces, config, deadline)
        return pieces.whole()
    finally:
        pieces.release()


class _Pieces:
    """A body as far as it has come."""

    def __init__(
        self, config: HttpConfig, uploads: Uploads, inflater: "zlib._Decompress | None"
    ) -> None:
        self._config = config
        self._uploads = uploads
        self._inflater = inflater
        self._body = bytearray()
        self._counted = 0
        self.received = 0

    def add(self, piece: bytes) -> None:
        """Takes what has come, never more than is allowed."""
        self.received += len(piece)
        if self._inflater is None:
            self._append(piece)
            return
        try:
            while piece:
                self._append(self._inflater.decompress(piece, _INFLATED_AT_ONCE))
                piece = self._inflater.unconsumed_tail
        except zlib.error as error:
            raise invalid(f"the body is not compressed as it says: {error}") from None

    def whole(self) -> Body:
        """The body, now that all has come."""
        if self._inflater is not None and (not self._inflater.eof or self._inflater.unused_data):
            raise invalid("the body is not compressed as it says: it has another end")
        return self._body

    def release(self) -> None:
        """It is no longer being read."""
        self._uploads.bytes -= self._counted

    def _append(self, piece: bytes) -> None:
        if len(self._body) + len(piece) > self._config.max_body_bytes:
            raise _too_large(self._config)
        self._uploads.check(len(piece))
        self._uploads.bytes += len(piece)
        self._counted += len(piece)
        self._body += piece


async def _read(
    content: StreamReader, pieces: _Pieces, config: HttpConfig, deadline: float
) -> None:
    """Reads to the end, if the client keeps up with the rate that is asked of it."""
    started = enough_until = time.monotonic()
    # The two clocks may be different ones.
    ahead = asyncio.get_running_loop().time() - started
    try:
        async with asyncio.timeout(None) as limit:
            while True:
                enough_until = started + config.stall_s + pieces.received / config.min_bytes_per_s
                limit.reschedule(ahead + min(enough_until, deadline))
                piece = await content.readany()
                if not piece:
                    return
                pieces.add(piece)
    except TimeoutError:
        if deadline <= enough_until:
            raise ServingError(
                Kind.DEADLINE, "the body had not come when the time of the request was over"
            ) from None
        raise HttpError(
            HTTPStatus.REQUEST_TIMEOUT,
            f"the body came too slowly: {pieces.received:,} bytes; expected at least "
            f"{config.min_bytes_per_s:,} bytes a second",
            {"Connection": "close"},
        ) from None
    except (RequestPayloadError, HttpProcessingError):
        raise invalid(
            "the body is broken: expected chunks, or as many bytes as were said"
        ) from None


def _inflater(encoding: str) -> "zlib._Decompress | None":
    if encoding == "identity":
        return None
    window = _WINDOWS.get(encoding.lower())
    if window is None:
        raise HttpError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"content-encoding {encoding[:64]!r} is not accepted; expected one of {_ACCEPTED}, or "
            "none",
            {"Accept-Encoding": _ACCEPTED},
        )
    return zlib.decompressobj(window)


async def _say_continue(request: web.BaseRequest) -> None:
    """Tells a client that waits for it that its body is welcome."""
    expected = request.headers.get("Expect", "").lower()
    if not expected or request.version < HttpVersion11:
        return
    if expected != "100-continue":
        raise HttpError(
            HTTPStatus.EXPECTATION_FAILED, "expect: expected 100-continue, or no such header"
        )
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # this was no part of the reply


def _too_large(config: HttpConfig) -> ServingError:
    return ServingError(
        Kind.TOO_LARGE, f"the body is too large; expected at most {config.max_body_bytes:,} bytes"
    )
