"""Pictures are decoded in a few threads, in time, and no more than a few of them wait."""

import asyncio
import base64
import io
import threading
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from hpc.artifact.v1 import artifact_pb2
from PIL import Image

from serving.core.errors import Kind, ServingError
from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.image_reader import ImageReader

STEPS = artifact_pb2.ImagePreprocessing(
    height=2,
    width=2,
    color_mode=artifact_pb2.COLOR_MODE_GREY,
    resampling=artifact_pb2.RESAMPLING_BOX,
    fit=artifact_pb2.FIT_PAD,
    scale=1.0,
)
PIXELS = np.array([[0, 50], [100, 255]], np.uint8)
LONG_S = 600.0


def in_base64(file_format: str = "PNG") -> str:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, file_format)
    return base64.b64encode(file.getvalue()).decode()


def with_reader(
    test: Callable[[ImageReader], Awaitable[None]], config: HttpConfig | None = None
) -> None:
    async def run() -> None:
        reader = ImageReader(config or HttpConfig())
        try:
            await test(reader)
        finally:
            reader.close()

    asyncio.run(run())


@pytest.mark.parametrize("head", ["", "data:image/png;base64,", "data:image/jpeg;base64,"])
def test_a_picture_comes_with_or_without_the_head_of_a_data_url(head: str) -> None:
    async def test(reader: ImageReader) -> None:
        picture = await reader.read(head + in_base64(), STEPS, time.monotonic() + LONG_S)
        np.testing.assert_array_equal(picture.array[0, ..., 0], PIXELS)

    with_reader(test)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("", Kind.INVALID, "no picture that can be read here"),
        ("aGVsbG8=", Kind.INVALID, "no picture that can be read here"),
        ("aGVsbG8", Kind.INVALID, "expected a PNG or JPEG in base64 .*without line breaks"),
        ("aGVs\nbG8=", Kind.INVALID, "without line breaks"),
        ("aGVs_G8=", Kind.INVALID, "without line breaks"),
        ("ä" * 8, Kind.INVALID, "without line breaks"),
        ("data:image/gif;base64,aGVsbG8=", Kind.INVALID, "without line breaks"),
        ("A" * 4000, Kind.TOO_LARGE, "4,000 characters; expected base64 of at most 2,000 bytes"),
    ],
)
def test_what_is_no_picture_in_base64_is_refused(text: str, kind: Kind, message: str) -> None:
    async def test(reader: ImageReader) -> None:
        with pytest.raises(ServingError, match=message) as raised:
            await reader.read(text, STEPS, time.monotonic() + LONG_S)
        assert raised.value.kind is kind

    with_reader(test, HttpConfig(max_image_bytes=2000))


def test_the_time_of_a_request_ends_while_its_picture_waits() -> None:
    config = HttpConfig(image_threads=1)

    async def test(reader: ImageReader) -> None:
        free = threading.Event()
        busy = reader._threads.submit(free.wait)
        with pytest.raises(ServingError, match="not decoded when the time") as raised:
            await reader.read(in_base64(), STEPS, time.monotonic() + 0.05)
        assert raised.value.kind is Kind.DEADLINE
        free.set()
        busy.result(LONG_S)

    with_reader(test, config)


def test_no_more_pictures_wait_than_allowed_and_each_gives_its_place_back() -> None:
    config = HttpConfig(image_threads=1, max_waiting_images=1)

    async def test(reader: ImageReader) -> None:
        free = threading.Event()
        reader._threads.submit(free.wait)

        def read() -> "asyncio.Task[object]":
            return asyncio.create_task(reader.read(in_base64(), STEPS, time.monotonic() + LONG_S))

        first, given_up = read(), read()
        await asyncio.sleep(0)
        with pytest.raises(ServingError, match="2 images are being decoded; try again") as raised:
            await read()
        assert raised.value.kind is Kind.OVERLOADED
        assert raised.value.retry_after_s
        given_up.cancel()  # it was not begun, so that its place is free at once
        await asyncio.wait([given_up])
        await asyncio.sleep(0.01)
        third = read()
        free.set()
        await asyncio.gather(first, third)

    with_reader(test, config)
