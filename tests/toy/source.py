"""Points around the corners of a triangle, to be told apart by the corner."""

import numpy as np
from pydantic import Field

from base.config import Section
from data.dataset import Dataset, ExampleSpec, Source, Split

NUM_CLASSES = 3


class CornersOptions(Section):
    """How far apart they are."""

    distance: float = Field(default=4.0, gt=0)


def _load(options: CornersOptions) -> Dataset:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, NUM_CLASSES, 600).astype(np.int32)
    angles = 2 * np.pi * labels / NUM_CLASSES
    centres = options.distance * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = (centres + rng.normal(size=centres.shape)).astype(np.float32)
    return Dataset(Split(points[:500], labels[:500]), Split(points[500:], labels[500:]))


CORNERS = Source(
    name="toy_corners",
    options=CornersOptions,
    describe=lambda options: ExampleSpec("points", (2,), "float32", NUM_CLASSES),
    load=_load,
)
