"""What may happen to an image before it is learnt from."""

from pydantic import Field

from base.config import Section


class AugmentConfig(Section):
    """Limits of what is drawn for each image anew; whatever is 0 does not happen.

    In this order: flip, crop, affine warp, light, noise, cutout.
    """

    horizontal_flip_rate: float = Field(
        default=0.0, ge=0, le=1, description="share of images that are mirrored, left for right"
    )
    crop_padding: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="pixels of zeros added on each side, of which a window of the old size is cut",
    )
    max_shift_pixels: float = Field(
        default=0.0, ge=0, le=4096, description="shift along each axis, between pixels too"
    )
    max_rotation_degrees: float = Field(
        default=0.0, ge=0, le=180, description="turn about the centre, either way"
    )
    max_scale: float = Field(
        default=0.0, ge=0, lt=1, description="relative change of size; 0.1 draws 0.9 to 1.1"
    )
    max_brightness: float = Field(
        default=0.0, ge=0, le=1000, description="added to all values of an image, or subtracted"
    )
    max_contrast: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="relative change of how far values are from the image's mean",
    )
    noise_stddev: float = Field(
        default=0.0, ge=0, le=1000, description="deviation of what is added to each value"
    )
    cutout_pixels: int = Field(
        default=0, ge=0, le=4096, description="side of a square that is set to 0, or what is inside"
    )
