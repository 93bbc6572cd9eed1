"""The weights of a convolutional network: their names, shapes and first values."""

from models.cnn.config import CnnConfig
from models.cnn.plan import BlockPlan, num_inputs
from models.initializers import constant, he_normal, zeros
from models.layers.attention.weights import attention
from models.layers.convolution.weights import convolution
from models.layers.fourier_features.coordinates import NUM_COORDINATES
from models.layers.fourier_features.weights import fourier_features
from models.layers.image_norm.weights import image_norm
from models.layers.linear.weights import linear
from models.layers.mixture_of_experts.weights import mixture_of_experts
from models.layers.positions.config import PositionsConfig
from models.layers.squeeze_excitation.weights import squeeze_excitation
from models.network import Weight, prefixed


def weights(config: CnnConfig) -> dict[str, Weight]:
    """Returns every weight, by canonical name.

    Convolutions are drawn as for rectified units and have a bias where nothing normalises; the head
    is zero, so that training starts from uniform predictions.
    """
    stem, width = config.stem, config.widths[-1]
    found: dict[str, Weight] = {}
    for name, features, inputs in (
        ("fourier_values", config.fourier_values, config.image.num_channels),
        ("fourier_coordinates", config.fourier_coordinates, NUM_COORDINATES),
    ):
        if features.enabled:
            found |= prefixed(name, fourier_features(features, inputs))
    bias = not config.norm.is_learned
    stem_conv = convolution(num_inputs(config), stem.width, stem.kernel_size, bias=bias)
    found |= prefixed("stem", stem_conv)
    for block in config.blocks:
        found |= prefixed(block.name, _block(config, block))
    found |= prefixed("norm", image_norm(config.norm, width))
    return found | prefixed("head", linear(width, config.num_classes, init=zeros))


def _block(config: CnnConfig, plan: BlockPlan) -> dict[str, Weight]:
    found = prefixed("conv", _conv_branch(config, plan))
    if plan.changes_shape:
        found |= prefixed("shortcut", convolution(plan.inputs, plan.width, 1, bias=False))
    if plan.has_attention:
        mixer = attention(config.attention, PositionsConfig(), plan.width)
        found |= prefixed("attention", _branch(config, plan, "mixer", mixer))
    if plan.has_experts:
        assert config.mixture_of_experts is not None
        mixture = mixture_of_experts(config.mixture_of_experts, config.feed_forward, plan.width)
        found |= prefixed("experts", _branch(config, plan, "feed_forward", mixture))
    return found


def _conv_branch(config: CnnConfig, plan: BlockPlan) -> dict[str, Weight]:
    found: dict[str, Weight] = {}
    last = len(plan.convs) - 1
    for index, conv in enumerate(plan.convs):
        found |= prefixed(f"norms.{index}", image_norm(config.norm, conv.inputs))
        of_conv = convolution(
            conv.inputs,
            conv.outputs,
            conv.kernel_size,
            groups=conv.groups,
            bias=not config.norm.is_learned,
            init=zeros if index == last and config.block.zero_init else he_normal,
        )
        found |= prefixed(f"convs.{index}", of_conv)
    if config.squeeze_excitation.enabled:
        of_gate = squeeze_excitation(config.squeeze_excitation, plan.width)
        found |= prefixed("squeeze_excitation", of_gate)
    return found | _residual(config, plan)


def _branch(
    config: CnnConfig, plan: BlockPlan, name: str, layer: dict[str, Weight]
) -> dict[str, Weight]:
    """Returns the weights of a branch that is a norm and one layer."""
    norm = prefixed("norm", image_norm(config.norm, plan.width))
    return norm | prefixed(name, layer) | _residual(config, plan)


def _residual(config: CnnConfig, plan: BlockPlan) -> dict[str, Weight]:
    scale = config.block.layer_scale
    if scale is None:
        return {}
    return {"residual.layer_scale": Weight((plan.width,), constant(scale))}
