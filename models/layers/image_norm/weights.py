"""The weights of a normalisation of images."""

from models.initializers import ones, zeros
from models.layers.image_norm.config import ImageNormConfig
from models.network import Weight

# What is mixed: batch, layer, group and instance.
NUM_MIXED = 4


def image_norm(config: ImageNormConfig, width: int) -> dict[str, Weight]:
    """Returns `weight [width]`, ones, and `bias [width]`, zeros; of none there are none.

    Where the batch counts, the statistics `running_mean [width]`, zeros, and `running_var [width]`,
    ones, are among them. A switchable norm has `mean_logits [4]` and `variance_logits [4]`, zeros:
    all four count alike at first.
    """
    weights: dict[str, Weight] = {}
    if config.is_learned:
        weights |= {"weight": Weight((width,), ones), "bias": Weight((width,), zeros)}
    if config.has_statistics:
        weights |= {
            "running_mean": Weight((width,), zeros, trainable=False),
            "running_var": Weight((width,), ones, trainable=False),
        }
    if config.kind == "switchable":
        logits = Weight((NUM_MIXED,), zeros)
        weights |= {"mean_logits": logits, "variance_logits": logits}
    return weights
