"""Mixes examples of a batch in pairs, and their targets alike.

Reference: Zhang et al., "mixup: Beyond Empirical Risk Minimization",
https://arxiv.org/abs/1710.09412.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mixup:
    """How examples are mixed.

    Attributes:
        alpha: Of the Beta distribution from which each example's share in its mixture is drawn;
            the larger, the nearer to a half.
        num_classes: Targets are classes, which become `[num_classes]` shares of each; None: they
            are numbers.
    """

    alpha: float
    num_classes: int | None

    def draw(self, batch_size: int, rng: np.random.Generator) -> np.ndarray:
        """Draws the share of each example of a batch in its mixture: `[batch_size]` float32."""
        return rng.beta(self.alpha, self.alpha, batch_size).astype(np.float32)

    def targets(self, targets: np.ndarray) -> np.ndarray:
        """Returns what of targets can be mixed: `[batch, ...]` float32."""
        if self.num_classes is None:
            return targets.astype(np.float32)
        classes: np.ndarray = np.arange(self.num_classes)
        return (targets[:, np.newaxis] == classes).astype(np.float32)


def mixed(shares: np.ndarray, own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns `share * own + (1 - share) * other` of each example: `[batch, ...]`."""
    shares = shares.reshape(-1, *(1,) * (own.ndim - 1)).astype(own.dtype)
    result: np.ndarray = shares * own + (1 - shares) * others
    return result


def partners(share: slice, batch_size: int) -> slice:
    """Returns with which examples a part of a batch is mixed: the first with the last, and so on.

    They come in reverse order.
    """
    start, stop, _ = share.indices(batch_size)
    return slice(batch_size - stop, batch_size - start)
