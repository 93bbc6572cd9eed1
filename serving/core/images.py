"""A picture as people send it, PNG or JPEG, to the input of a model, as its artifact says.

What is read here came from the network. Its format and its size are known from its first bytes, and
are checked before a pixel is decoded.

Reference: ImagePreprocessing of proto/hpc/artifact/v1/artifact.proto states the steps.
"""

import io
import warnings
from typing import NamedTuple

import numpy as np
from hpc.artifact.v1 import artifact_pb2
from PIL import Image, ImageFile, ImageOps

from serving.core.errors import Kind, ServingError, invalid
from serving.core.png_rows import has_all_rows

FORMATS = ("PNG", "JPEG")

# Whoever else in this process changes these opens the way for pictures that are not what they say:
# half a file is none, and many pixels from few bytes are an attack.
ImageFile.LOAD_TRUNCATED_IMAGES = False
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

_FILTERS = {
    artifact_pb2.RESAMPLING_NEAREST: Image.Resampling.NEAREST,
    artifact_pb2.RESAMPLING_BOX: Image.Resampling.BOX,
    artifact_pb2.RESAMPLING_BILINEAR: Image.Resampling.BILINEAR,
    artifact_pb2.RESAMPLING_BICUBIC: Image.Resampling.BICUBIC,
    artifact_pb2.RESAMPLING_LANCZOS: Image.Resampling.LANCZOS,
}
_MODES = {artifact_pb2.COLOR_MODE_GREY: "L", artifact_pb2.COLOR_MODE_RGB: "RGB"}

_MIDDLE = 127.5
# From 16 bits a channel to 8: 65535 / 255.
_PER_LEVEL = 257


class Picture(NamedTuple):
    """A picture that has become an input.

    Attributes:
        array: `[1, height, width, channels]` float32, what the model is given.
        width: of the picture itself, upright, in pixels.
        height: the same.
        inverted: it was dark on light, and the model takes light on dark.
    """

    array: np.ndarray
    width: int
    height: int
    inverted: bool


def read_picture(
    encoded: bytes, steps: artifact_pb2.ImagePreprocessing, *, max_pixels: int
) -> Picture:
    """Makes the input of a PNG or JPEG. It takes milliseconds to seconds: call it in a thread.

    What is transparent is seen on white, as most programs show it. Of an animation the first
    picture is taken. A photograph is turned upright as its EXIF says.

    Args:
        encoded: the file.
        steps: what the artifact says.
        max_pixels: of the picture; a larger one is not decoded.

    Raises:
        ServingError: INVALID or TOO_LARGE; it is no such picture.
    """
    image = _open(encoded, max_pixels)
    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise whatever their libraries do
        raise invalid(f"the image cannot be decoded: {_first_line(error)}") from None
    if image.format == "PNG" and not has_all_rows(encoded):
        raise invalid("the image cannot be decoded: the last of its rows are missing")
    image = _upright(image)
    width, height = image.size
    image = _in_mode(image, _MODES[steps.color_mode])
    inverted = steps.light_on_dark and _has_light_ground(image)
    if inverted:
        image = ImageOps.invert(image)
    image = _of_size(image, steps)
    values = np.asarray(image, np.float64).reshape(1, steps.height, steps.width, -1) * steps.scale
    if steps.mean:
        values -= np.array(steps.mean)
    if steps.std:
        values /= np.array(steps.std)
    return Picture(values.astype(np.float32), width, height, inverted)


def _open(encoded: bytes, max_pixels: int) -> Image.Image:
    """Reads no more than the picture's header."""
    expected = f"expected a {' or '.join(FORMATS)} of at most {max_pixels:,} pixels"
    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ServingError(Kind.TOO_LARGE, f"the image has too many pixels; {expected}") from None
    except Exception:  # Pillow's message is of a BytesIO; its parsers raise whatever they meet
        raise invalid(f"the image is no picture that can be read here; {expected}") from None
    width, height = image.size
    if width * height > max_pixels:
        raise ServingError(Kind.TOO_LARGE, f"the image is {width} by {height} pixels; {expected}")
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a picture whose EXIF is broken is a picture
        return image


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow's own conversion would clip
        levels = np.asarray(image).astype(np.int64).clip(0) // _PER_LEVEL
        image = Image.fromarray(levels.clip(max=255).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert(mode)


def _has_light_ground(image: Image.Image) -> bool:
    """Whether the outermost pixels are light: what is drawn seldom touches them."""
    levels = np.asarray(image)
    edges = (levels[0], levels[-1], levels[1:-1, 0], levels[1:-1, -1])
    return float(np.concatenate(edges).mean()) > _MIDDLE


def _of_size(image: Image.Image, steps: artifact_pb2.ImagePreprocessing) -> Image.Image:
    size, resampling = (steps.width, steps.height), _FILTERS[steps.resampling]
    if steps.fit == artifact_pb2.FIT_STRETCH:
        return image.resize(size, resampling)
    if steps.fit == artifact_pb2.FIT_CROP:
        return ImageOps.fit(image, size, resampling)
    whole = ImageOps.contain(image, size, resampling)
    if 0 in whole.size:  # less than half a pixel remains of its shorter side
        raise invalid(
            f"the image is {image.width} by {image.height} pixels, of which nothing can be seen in "
            f"{steps.width} by {steps.height}; expected sides in a similar proportion"
        )
    ground = Image.new(image.mode, size, 0)
    ground.paste(whole, ((size[0] - whole.width) // 2, (size[1] - whole.height) // 2))
    return ground


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
