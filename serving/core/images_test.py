"""A picture becomes the input that its artifact's steps say, or is refused before it is decoded."""

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hpc.artifact.v1 import artifact_pb2
from PIL import Image

from serving.core.errors import Kind, ServingError
from serving.core.images import read_picture

MAX_PIXELS = 10_000


def steps(**fields: Any) -> artifact_pb2.ImagePreprocessing:
    """Grey pictures of 4 by 4 with values from 0 to 1, unless fields say otherwise."""
    usual = {
        "height": 4,
        "width": 4,
        "color_mode": artifact_pb2.COLOR_MODE_GREY,
        "resampling": artifact_pb2.RESAMPLING_BOX,
        "fit": artifact_pb2.FIT_PAD,
        "scale": 1 / 255,
    }
    return artifact_pb2.ImagePreprocessing(**usual | fields)


def encoded(pixels: np.ndarray, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format, **options)
    return file.getvalue()


def array_of(pixels: np.ndarray, **fields: Any) -> np.ndarray:
    """What the model is given, without its batch."""
    return read_picture(encoded(pixels), steps(**fields), max_pixels=MAX_PIXELS).array[0]


def test_a_picture_of_the_right_size_is_scaled_and_no_more() -> None:
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
    array = array_of(pixels, resampling=artifact_pb2.RESAMPLING_LANCZOS)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array[..., 0], (pixels / 255).astype(np.float32))


def test_mean_and_deviation_are_those_of_each_channel() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
    array = array_of(
        pixels, color_mode=artifact_pb2.COLOR_MODE_RGB, scale=0.5, mean=[1, 2, 3], std=[2, 4, 8]
    )
    expected = (pixels * 0.5 - np.array([1, 2, 3])) / np.array([2, 4, 8])
    np.testing.assert_array_equal(array, expected.astype(np.float32))


def test_a_box_filter_takes_the_mean_of_what_a_pixel_covers() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12), np.uint8)
    means = pixels.reshape(4, 3, 4, 3).mean(axis=(1, 3))
    # Pillow rounds to whole levels after each of the two directions.
    np.testing.assert_allclose(array_of(pixels)[..., 0] * 255, means, atol=1.0)


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        (artifact_pb2.FIT_STRETCH, [[255] * 4] * 4),
        (artifact_pb2.FIT_PAD, [[0] * 4, [255] * 4, [255] * 4, [0] * 4]),
        (artifact_pb2.FIT_CROP, [[255] * 4] * 4),
    ],
)
def test_a_picture_of_other_proportions_is_made_to_fit(fit: int, expected: Any) -> None:
    array = array_of(np.full((4, 8), 255, np.uint8), fit=fit, scale=1.0)
    np.testing.assert_array_equal(array[..., 0], expected)


def test_cropping_keeps_the_middle() -> None:
    pixels = np.repeat(np.arange(8, dtype=np.uint8)[np.newaxis], 4, axis=0)
    array = array_of(pixels, fit=artifact_pb2.FIT_CROP, scale=1.0)
    np.testing.assert_array_equal(array[..., 0], np.broadcast_to([2, 3, 4, 5], (4, 4)))


@pytest.mark.parametrize("dark_on_light", [False, True])
def test_what_is_dark_on_light_is_inverted(dark_on_light: bool) -> None:
    pixels = np.zeros((4, 4), np.uint8)
    pixels[1:3, 1] = 255
    given = 255 - pixels if dark_on_light else pixels
    picture = read_picture(encoded(given), steps(light_on_dark=True), max_pixels=MAX_PIXELS)
    np.testing.assert_array_equal(picture.array[0, ..., 0], pixels / 255)
    assert picture.inverted is dark_on_light
    np.testing.assert_array_equal(array_of(given)[..., 0], (given / 255).astype(np.float32))


def test_what_is_transparent_is_seen_on_white() -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[1, 1] = [0, 0, 0, 255]
    expected = np.full((4, 4), 255)
    expected[1, 1] = 0
    np.testing.assert_array_equal(array_of(pixels, scale=1.0)[..., 0], expected)


def test_sixteen_bits_of_grey_are_not_cut_off() -> None:
    levels = np.arange(16, dtype=np.uint16).reshape(4, 4) * 16 * 257
    np.testing.assert_array_equal(array_of(levels, scale=1.0)[..., 0], levels // 257)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_kind_of_png_is_grey_in_the_end(mode: str) -> None:
    file = io.BytesIO()
    picture = Image.new("L", (4, 4), 0)
    picture.putpixel((1, 2), 255)
    picture.convert(mode).save(file, "PNG")
    array = read_picture(file.getvalue(), steps(), max_pixels=MAX_PIXELS).array
    assert np.argwhere(array[0, ..., 0] == 1).tolist() == [[2, 1]]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_kind_of_jpeg_is_read(mode: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 200, 200)).convert(mode).save(file, "JPEG")
    array = read_picture(file.getvalue(), steps(scale=1.0), max_pixels=MAX_PIXELS).array
    np.testing.assert_allclose(array, 200, atol=3)  # JPEG is lossy


def test_a_photograph_is_turned_upright() -> None:
    pixels = np.zeros((8, 4), np.uint8)
    pixels[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # "the visual top is the right side": to be turned a quarter clockwise
    lying = encoded(pixels, "PNG", exif=exif)
    picture = read_picture(lying, steps(fit=artifact_pb2.FIT_STRETCH), max_pixels=MAX_PIXELS)
    assert (picture.width, picture.height) == (8, 4)
    np.testing.assert_array_equal(picture.array[0, 0, :, 0], [0, 0, 1, 1])


def chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def png_of(width: int, height: int, data: bytes) -> bytes:
    """A grey PNG that says that it is that large, and has such data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(data)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


GOOD = encoded(np.zeros((64, 64), np.uint8), "PNG")
PHOTO = encoded(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8), "JPEG")

REFUSED: Mapping[str, tuple[bytes, Kind, str]] = {
    "nothing": (b"", Kind.INVALID, "no picture that can be read here; expected a PNG or JPEG"),
    "text": (b"hello", Kind.INVALID, "no picture that can be read here"),
    "gif": (encoded(np.zeros((4, 4), np.uint8), "GIF"), Kind.INVALID, "expected a PNG or JPEG"),
    "bmp": (encoded(np.zeros((4, 4), np.uint8), "BMP"), Kind.INVALID, "expected a PNG or JPEG"),
    "webp": (encoded(np.zeros((4, 4, 3), np.uint8), "WEBP"), Kind.INVALID, "expected a PNG or"),
    "half a png": (GOOD[:-30], Kind.INVALID, "cannot be decoded"),
    "a png that ends a row early": (
        png_of(8, 8, bytes(7 * 9)),
        Kind.INVALID,
        "cannot be decoded: the last of its rows are missing",
    ),
    "half a jpeg": (PHOTO[:-300], Kind.INVALID, "cannot be decoded: image file is truncated"),
    "too large": (
        png_of(101, 100, bytes(10_000)),
        Kind.TOO_LARGE,
        "101 by 100 pixels; .* at most 10,000 pixels",
    ),
    "a bomb": (png_of(60_000, 60_000, bytes(10_000)), Kind.TOO_LARGE, "at most 10,000 pixels"),
    "no height": (png_of(60_000, 0, bytes(10_000)), Kind.INVALID, "the image"),
    "too narrow": (encoded(np.zeros((1, 100), np.uint8)), Kind.INVALID, "nothing can be seen in"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_such_picture_is_refused(case: str) -> None:
    content, kind, message = REFUSED[case]
    with pytest.raises(ServingError, match=message) as raised:
        read_picture(content, steps(), max_pixels=MAX_PIXELS)
    assert raised.value.kind is kind


@pytest.mark.parametrize("of", [GOOD, PHOTO])
def test_damaged_bytes_are_read_or_refused_and_nothing_else(of: bytes) -> None:
    rng = np.random.default_rng(2)
    errors = []
    for _ in range(200):
        damaged = bytearray(of)
        for place in rng.integers(0, len(of), 4):
            damaged[place] = rng.integers(0, 256)
        try:
            read_picture(bytes(damaged), steps(), max_pixels=MAX_PIXELS)
        except ServingError as error:
            errors.append(error)
    assert errors
    assert {error.kind for error in errors} <= {Kind.INVALID, Kind.TOO_LARGE}
    assert not any("\n" in error.message for error in errors)
