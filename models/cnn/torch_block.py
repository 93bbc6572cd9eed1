"""The residual blocks of a convolutional network in PyTorch; `flax_block.py` is its twin.

Shape suffixes:
  B = batch, H = height, W = width, C = channels, T = pixels
"""

import torch
from torch import nn

from models.cnn.config import CnnConfig
from models.cnn.plan import BlockPlan, ConvPlan
from models.context import Context
from models.layers.activation.torch_layer import ACTIVATIONS
from models.layers.attention.torch_layer import Attention
from models.layers.convolution.torch_layer import Convolution
from models.layers.downsampling.torch_layer import blur_pool
from models.layers.dropout.torch_layer import dropout, stochastic_depth
from models.layers.image_norm.torch_layer import ImageNorm
from models.layers.mixture_of_experts.torch_layer import MixtureOfExperts
from models.layers.positions.config import PositionsConfig
from models.layers.squeeze_excitation.torch_layer import SqueezeExcitation


class Residual(nn.Module):
    """What a branch adds, `[batch, height, width, channels]`, scaled and at random left out."""

    def __init__(self, config: CnnConfig, plan: BlockPlan, name: str):
        super().__init__()
        self.name, self.depth_rate = name, plan.depth_rate
        scaled = config.block.layer_scale is not None
        self.layer_scale = nn.Parameter(torch.zeros(plan.width)) if scaled else None

    def forward(self, y_BHWC: torch.Tensor, context: Context) -> torch.Tensor:
        if self.layer_scale is not None:
            y_BHWC = y_BHWC * self.layer_scale.to(y_BHWC.dtype)
        context.sow_value(self.name, y_BHWC)
        return stochastic_depth(y_BHWC, self.depth_rate, context, self.name)


class ConvBranch(nn.Module):
    """Convolutions, each of a normalised and activated input."""

    def __init__(self, config: CnnConfig, plan: BlockPlan, name: str):
        super().__init__()
        self.config, self.name, self.stride = config, name, plan.stride
        self.norms = nn.ModuleList(
            ImageNorm(config.norm, conv.inputs, name=f"{name}.norms.{index}")
            for index, conv in enumerate(plan.convs)
        )
        self.convs = nn.ModuleList(_convolution(config, conv) for conv in plan.convs)
        gate = config.squeeze_excitation
        self.squeeze_excitation = SqueezeExcitation(gate, plan.width) if gate.enabled else None
        self.residual = Residual(config, plan, name)

    def forward(self, x_BHWC: torch.Tensor, context: Context) -> torch.Tensor:
        block, last = self.config.block, len(self.convs) - 1
        for index, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            x_BHWC = ACTIVATIONS[block.activation](norm(x_BHWC, context))
            if index == last:
                x_BHWC = dropout(x_BHWC, block.dropout_rate, context, f"{self.name}.dropout")
                # The blur comes after the convolution that would stride, and an activation.
                x_BHWC = blurred(x_BHWC, self.config, self.stride)
            x_BHWC = conv(x_BHWC)
        if self.squeeze_excitation is not None:
            x_BHWC = self.squeeze_excitation(x_BHWC)
        return self.residual(x_BHWC, context)


class AttentionBranch(nn.Module):
    """Attention of pixels, row by row, over a normalised input."""

    def __init__(self, config: CnnConfig, plan: BlockPlan, name: str):
        super().__init__()
        self.norm = ImageNorm(config.norm, plan.width, name=f"{name}.norm")
        self.mixer = Attention(
            config.attention,
            PositionsConfig(),
            plan.width,
            cache_len=plan.num_pixels,
            name=f"{name}.mixer",
        )
        self.residual = Residual(config, plan, name)

    def forward(self, x_BHWC: torch.Tensor, context: Context) -> torch.Tensor:
        batch, channels = x_BHWC.shape[0], x_BHWC.shape[-1]
        x_BTC = self.norm(x_BHWC, context).reshape(batch, -1, channels)
        y_BHWC = self.mixer(x_BTC, context).reshape(x_BHWC.shape)
        return self.residual(y_BHWC, context)


class ExpertBranch(nn.Module):
    """A mixture of experts, which each pixel goes to by itself, over a normalised input."""

    def __init__(self, config: CnnConfig, plan: BlockPlan, name: str):
        super().__init__()
        assert config.mixture_of_experts is not None
        self.norm = ImageNorm(config.norm, plan.width, name=f"{name}.norm")
        self.feed_forward = MixtureOfExperts(
            config.mixture_of_experts, config.feed_forward, plan.width, name=f"{name}.feed_forward"
        )
        self.residual = Residual(config, plan, name)

    def forward(self, x_BHWC: torch.Tensor, context: Context) -> torch.Tensor:
        y_BHWC = self.feed_forward(self.norm(x_BHWC, context), context)
        return self.residual(y_BHWC, context)


class Block(nn.Module):
    """Images `[batch, height, width, channels]` to images, of another shape if the plan says so.

    Its branches are run one after the other, each over what the ones before added to.
    """

    def __init__(self, config: CnnConfig, plan: BlockPlan):
        super().__init__()
        self.config, self.stride, name = config, plan.stride, plan.name
        stride = 1 if config.blur_filter_size else plan.stride
        self.shortcut = (
            Convolution(plan.inputs, plan.width, 1, stride=stride, bias=False)
            if plan.changes_shape
            else None
        )
        self.conv = ConvBranch(config, plan, f"{name}.conv")
        self.attention = (
            AttentionBranch(config, plan, f"{name}.attention") if plan.has_attention else None
        )
        self.experts = ExpertBranch(config, plan, f"{name}.experts") if plan.has_experts else None

    @property
    def branches(self) -> list[nn.Module]:
        """Its branches, in order."""
        branches = (self.conv, self.attention, self.experts)
        return [branch for branch in branches if branch is not None]

    def forward(self, x_BHWC: torch.Tensor, context: Context) -> torch.Tensor:
        added_BHWC = self.conv(x_BHWC, context)
        if self.shortcut is not None:
            x_BHWC = self.shortcut(blurred(x_BHWC, self.config, self.stride))
        x_BHWC = x_BHWC + added_BHWC
        if self.attention is not None:
            x_BHWC = x_BHWC + self.attention(x_BHWC, context)
        if self.experts is not None:
            x_BHWC = x_BHWC + self.experts(x_BHWC, context)
        return x_BHWC


def blurred(x_BHWC: torch.Tensor, config: CnnConfig, stride: int) -> torch.Tensor:
    """Returns images made smaller by the blur, if there is one."""
    if config.blur_filter_size is None or stride == 1:
        return x_BHWC
    return blur_pool(x_BHWC, config.blur_filter_size, stride)


def _convolution(config: CnnConfig, plan: ConvPlan) -> Convolution:
    return Convolution(
        plan.inputs,
        plan.outputs,
        plan.kernel_size,
        stride=1 if config.blur_filter_size else plan.stride,
        groups=plan.groups,
        bias=not config.norm.is_learned,
    )
