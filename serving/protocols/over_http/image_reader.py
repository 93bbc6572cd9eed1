"""Decodes pictures in a few threads, so that nobody waits for the pictures of others."""

import asyncio
import base64
import binascii
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from hpc.artifact.v1 import artifact_pb2

from serving.core.errors import Kind, ServingError, invalid
from serving.core.images import Picture, read_picture
from serving.protocols.over_http.config import HttpConfig

# What browsers put in front of it.
_DATA_URL = re.compile(r"data:image/(?:png|jpeg);base64,")


class ImageReader:
    """Threads that decode pictures, and a bounded queue before them.

    Args:
        config: how many, and how large pictures may be.
    """

    def __init__(self, config: HttpConfig) -> None:
        self._config = config
        self._threads = ThreadPoolExecutor(config.image_threads, thread_name_prefix="image")
        self._pictures = 0

    async def read(
        self, text: str, steps: artifact_pb2.ImagePreprocessing, deadline: float
    ) -> Picture:
        """Decodes a picture.

        A thread cannot be interrupted: what is being decoded when its caller goes away or its time
        is over still takes a place until it is done.

        Args:
            text: the file in base64, with or without the head of a data URL.
            steps: how it becomes an input.
            deadline: of `time.monotonic`.

        Raises:
            ServingError: It is no such picture, or there is no time or no room for it.
        """
        most = self._config.max_image_bytes
        if len(text) > most * 4 // 3 + 64:
            raise ServingError(
                Kind.TOO_LARGE,
                f"image has {len(text):,} characters; expected base64 of at most {most:,} bytes",
            )
        if self._pictures >= self._config.image_threads + self._config.max_waiting_images:
            raise ServingError(
                Kind.OVERLOADED,
                f"{self._pictures} images are being decoded; try again later",
                reason="too_many_images",
                retry_after_s=1.0,
            )
        loop = asyncio.get_running_loop()
        self._pictures += 1
        work = self._threads.submit(_decode, text, steps, self._config.max_image_pixels)
        work.add_done_callback(lambda _: self._tell(loop))
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            raise ServingError(
                Kind.DEADLINE, "the image was not decoded when the time of the request was over"
            ) from None

    def close(self) -> None:
        """Decodes nothing more; what is being decoded is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the loop has ended before the thread
            loop.call_soon_threadsafe(self._done)

    def _done(self) -> None:
        self._pictures -= 1


def _decode(text: str, steps: artifact_pb2.ImagePreprocessing, max_pixels: int) -> Picture:
    head = _DATA_URL.match(text)
    try:
        encoded = base64.b64decode(text[head.end() :] if head else text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid(
            "image: expected a PNG or JPEG in base64 (RFC 4648, section 4), without line breaks"
        ) from None
    return read_picture(encoded, steps, max_pixels=max_pixels)
