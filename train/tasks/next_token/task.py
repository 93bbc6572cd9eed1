"""The next token at every position, by cross-entropy."""

import numpy as np
from pydantic import Field

from base.config import Section
from data.dataset import ExampleSpec
from models.initializers import Shape
from models.network import Signature
from train.tasks.next_token.evaluation import measure, outcomes, summarize
from train.tasks.task import Direction, Objective, Task


class NextTokenLoss(Section):
    """Cross-entropy of the token that follows, a mean over all positions that count."""

    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="share of each target spread over all tokens"
    )
    z_loss_weight: float = Field(
        default=0.0,
        ge=0,
        description="of the squared logarithm of the softmax's sum, which it keeps near 0",
    )


def _output_shape(examples: ExampleSpec) -> Shape:
    if examples.num_classes is None or len(examples.target_shape) != 1:
        raise ValueError(
            f"has targets {examples.target_dtype} {list(examples.target_shape)}, but task "
            "'next_token' needs a token for each position, [seq_len]"
        )
    return (*examples.target_shape, examples.num_classes)


def _directions(examples: ExampleSpec) -> dict[str, Direction]:
    found: dict[str, Direction] = {
        "accuracy": "max",
        "bits_per_byte": "min",
        "bits_per_token": "min",
        "loss_nats": "min",
        "perplexity": "min",
    }
    if examples.bytes_per_token is None:
        del found["bits_per_byte"]
    return found


def _noise(signature: Signature, num_examples: int, rng: np.random.Generator) -> np.ndarray:
    """Draws from the standard Gumbel distribution; see `optim.torch.curvature.sample_labels`."""
    return rng.gumbel(size=(num_examples, *signature.output.shape)).astype(np.float32)


def _flax(loss: NextTokenLoss) -> Objective:
    from train.tasks.next_token.flax_objective import objective

    return objective(**loss.model_dump())


def _torch(loss: NextTokenLoss) -> Objective:
    from train.tasks.next_token.torch_objective import objective

    return objective(**loss.model_dump())


NEXT_TOKEN = Task(
    name="next_token",
    loss=NextTokenLoss,
    output_shape=_output_shape,
    noise=_noise,
    measure=measure,
    outcomes=outcomes,
    summarize=summarize,
    directions=_directions,
    primary="loss_nats",
    flax=_flax,
    torch=_torch,
)
