"""A mixture of tasks: points in clusters, with other rules for the classes in each cluster.

A layer of experts with a router sends each cluster to an expert that learns its rule alone; a dense
layer of as many active weights has to hold all the rules at once.
"""

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from data.dataset import Dataset, ExampleSpec, Source, Split
from data.sources.drawn import MAX_VALUES, DrawnOptions


class MixtureOptions(DrawnOptions):
    """How many rules there are, and how hard each is."""

    num_clusters: int = Field(default=16, ge=1, le=4096, description="each has a rule of its own")
    num_features: int = Field(default=32, ge=1, le=4096, description="of a point")
    num_classes: int = Field(default=8, ge=2, le=4096, description="the same in every cluster")
    separation: float = Field(
        default=2.0,
        ge=0,
        le=1000,
        description="deviation of the clusters' centres, per feature, where that of points around "
        "their centre is 1",
    )

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        self.check_size(self.num_features, "num_features")
        if self.num_clusters * self.num_features * self.num_classes > MAX_VALUES:
            raise ValueError(
                f"num_clusters {self.num_clusters} rules for num_features {self.num_features} and "
                f"num_classes {self.num_classes} have more than {MAX_VALUES:,} values; lower one"
            )
        return self


def _load(options: MixtureOptions) -> Dataset:
    rng = options.task_rng
    centres = rng.normal(0.0, options.separation, (options.num_clusters, options.num_features))
    rules = rng.normal(size=(options.num_clusters, options.num_features, options.num_classes))

    def draw(count: int, rng: np.random.Generator) -> Split:
        cluster = rng.integers(0, options.num_clusters, count)
        offset = rng.normal(size=(count, options.num_features))
        scores = np.empty((count, options.num_classes))
        for number, rule in enumerate(rules):
            inside = cluster == number
            scores[inside] = offset[inside] @ rule
        points = (centres[cluster] + offset).astype(np.float32)
        return Split(points, scores.argmax(axis=1).astype(np.int32))

    return Dataset(
        train=draw(options.num_train, options.train_rng),
        test=draw(options.num_test, options.test_rng),
    )


def _describe(options: MixtureOptions) -> ExampleSpec:
    return ExampleSpec("points", (options.num_features,), "float32", options.num_classes)


MIXTURE = Source("mixture", MixtureOptions, _describe, _load)
