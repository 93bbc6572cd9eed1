"""The section that says how weights are averaged over a run."""

from pydantic import Field

from base.config import Section


class EmaConfig(Section):
    """An exponential moving average of the weights, which is then evaluated and published.

    At each update it moves from where it is to the weights by 1 - decay of the way. Running
    statistics are averaged as weights are.

    Reference: `tf.train.ExponentialMovingAverage`, whose warm-up this has, and timm's
    `ModelEmaV3`, which averages statistics too.
    """

    decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="of the average at each update, 0.9999 for example; null: there is none",
    )
    warmup: bool = Field(
        default=True,
        description="whether it is at most (1 + n) / (10 + n) after n steps, so that the first "
        "weights are soon forgotten",
    )

    def rate(self, step: int) -> float:
        """How far the average moves to the weights after a step, counted from 0; 0 of none."""
        if self.decay is None:
            return 0.0
        return 1 - (min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay)
