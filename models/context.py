"""What a pass through a network is given beside its input, and what it leaves beside its output.

Both frameworks' networks take one, and hand it to every layer:

    context = Context(train=True, seeds=batch.seeds)
    logits = network(images, context)
    loss = cross_entropy(logits, labels) + context.sown.loss

A layer that is run again for the way back, as under gradient checkpointing, sows once: what runs it
gives it a place of its own to sow to, of which the first run's is kept.
"""

import zlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# Of one framework: an array, or a tensor.
Array = Any

# A number, or an array of one that may be traced.
Scalar = Any


class Sown(NamedTuple):
    """What layers leave beside their outputs; a tree of arrays to both frameworks.

    Attributes:
        losses: To be added to the task's loss, [] each, already weighted; by name, one a layer.
        metrics: Worth reporting, [] each; by name, one a layer.
        statistics: New values of weights that do not train, by canonical name.
        values: Intermediate values, by the name of the layer; only if they are asked for.
        caches: What a layer has to know of the tokens so far, by its name; only in decoding.
    """

    losses: dict[str, list[Array]]
    metrics: dict[str, list[Array]]
    statistics: dict[str, Array]
    values: dict[str, Array]
    caches: dict[str, Any]

    @staticmethod
    def nothing() -> "Sown":
        """Returns a place to sow to."""
        return Sown({}, {}, {}, {}, {})

    def add(self, other: "Sown") -> None:
        """Takes over what another place holds."""
        for name in other.losses:
            self.losses.setdefault(name, []).extend(other.losses[name])
        for name in other.metrics:
            self.metrics.setdefault(name, []).extend(other.metrics[name])
        self.statistics.update(other.statistics)
        self.values.update(other.values)
        self.caches.update(other.caches)

    @property
    def loss(self) -> Array:
        """The sum of all losses; 0 if there are none."""
        return sum((loss for losses in self.losses.values() for loss in losses), 0.0)

    @property
    def report(self) -> dict[str, Array]:
        """The mean over layers of each metric and each loss, [] each, by name."""
        return {
            name: sum(values) / len(values) for name, values in (self.metrics | self.losses).items()
        }


@dataclass(frozen=True)
class Context:
    """One pass through a network.

    Attributes:
        train: Whether units are dropped, and statistics are those of the batch.
        seeds: `[batch]` integers of 32 bits, one an example, from which its random numbers are
            made; only training needs them. Equal for an example wherever in a batch it stands.
        dropout_scale: Factor of all dropout rates, from 0 to 1.
        stochastic_depth_scale: Factor of all rates of stochastic depth, from 0 to 1.
        dtype: NumPy's name of the type to compute in; None for that of the weights.
        checkpointing: What blocks compute again on the way back and do not keep: "none", "full"
            (all but their inputs) or "attention" (all but what attention gave).
        segment_ids: `[batch, seq_len]` integers, negative for padding; None: there is no padding.
        keep_values: Whether layers sow intermediate values.
        caches: What the passes before sowed of it, in decoding; None: the input is all there is.
        sown: What layers leave.
    """

    train: bool = False
    seeds: Array | None = None
    dropout_scale: Scalar = 1.0
    stochastic_depth_scale: Scalar = 1.0
    dtype: str | None = None
    checkpointing: str = "none"
    segment_ids: Array | None = None
    keep_values: bool = False
    caches: dict[str, Any] | None = None
    sown: Sown = field(default_factory=Sown.nothing)

    @property
    def seeds_to_draw(self) -> Array:
        """The seeds, for a layer that cannot do without.

        Raises:
            ValueError: There are none.
        """
        if self.seeds is None:
            raise ValueError("to draw at random takes Context(seeds=...), [batch] integers")
        return self.seeds

    def sow_loss(self, name: str, value: Array) -> None:
        """Leaves a loss of one layer, [], already weighted."""
        self.sown.losses.setdefault(name, []).append(value)

    def sow_metric(self, name: str, value: Array) -> None:
        """Leaves a metric of one layer, []."""
        self.sown.metrics.setdefault(name, []).append(value)

    def sow_value(self, name: str, value: Array) -> None:
        """Leaves an intermediate value under the name of the layer that gave it."""
        if self.keep_values:
            self.sown.values[name] = value


def salt(name: str) -> int:
    """Returns 32 bits that tell apart what layers draw from one seed; by the layer's name."""
    return zlib.crc32(name.encode())
