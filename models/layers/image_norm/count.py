"""Of how many values a batch's mean and variance are."""


def require_several(shape: tuple[int, ...]) -> int:
    """Returns how many values a channel of images `[batch, height, width, channels]` has.

    Raises:
        ValueError: It has one, of which there is no variance.
    """
    batch, height, width, _ = shape
    if batch * height * width == 1:
        raise ValueError(
            "a batch norm has only one value of each channel, an image of 1x1 pixels of a batch of "
            "1; give it larger images or batches, or normalise by layer or group"
        )
    return batch * height * width
