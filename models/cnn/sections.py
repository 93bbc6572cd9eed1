"""The keys of a convolutional network's configuration, each with what it may be by itself."""

from typing import Annotated, Literal

from pydantic import Field

from base.config import FROM_LIST, MAX_INTEGER, STRICT_INTEGER, Section
from models.layers.activation.names import Activation
from models.layers.attention.config import AttentionConfig
from models.layers.feed_forward.config import FeedForwardConfig
from models.layers.fourier_features.config import FourierFeaturesConfig
from models.layers.image_norm.config import ImageNormConfig
from models.layers.mixture_of_experts.config import MixtureConfig
from models.layers.squeeze_excitation.config import SqueezeExcitationConfig

# Kernels are odd, so that each pixel is in the middle of its own.
KernelSize = Annotated[Literal[1, 3, 5, 7, 9, 11], STRICT_INTEGER]

# As many were trained once, https://arxiv.org/abs/1603.09382; each is compiled by itself.
MAX_BLOCKS = 1202

Stages = Annotated[tuple[Annotated[int, Field(ge=0, lt=MAX_BLOCKS)], ...], FROM_LIST]
Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_INTEGER)], ...], FROM_LIST]
Depths = Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_BLOCKS)], ...], FROM_LIST]
Strides = Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], FROM_LIST]


class ImageConfig(Section):
    """The images that go in."""

    height: int = Field(ge=1, le=MAX_INTEGER, description="in pixels")
    width: int = Field(ge=1, le=MAX_INTEGER, description="in pixels")
    num_channels: int = Field(ge=1, le=MAX_INTEGER, description="values of a pixel")


class StemConfig(Section):
    """What makes the first stage's input of an image."""

    width: int = Field(default=32, ge=1, le=MAX_INTEGER, description="channels that come out")
    kernel_size: KernelSize = Field(default=3, description="of its convolution, in pixels")
    stride: int = Field(default=1, ge=1, le=64, description="of its convolution, in pixels")
    pool: Literal["none", "max"] = Field(
        default="none", description="afterwards; max: of 3x3 pixels, which halves the sides"
    )


class BlockConfig(Section):
    """What each residual block is."""

    kind: Literal["basic", "bottleneck"] = Field(
        default="basic",
        description="basic: two convolutions; bottleneck: one of fewer channels between two of 1x1",
    )
    expansion: int = Field(
        default=4, ge=1, le=64, description="of bottleneck: width / width of its middle"
    )
    kernel_size: KernelSize = Field(default=3, description="of convolutions but those of 1x1")
    groups: int = Field(
        default=1,
        ge=1,
        le=MAX_INTEGER,
        description="of convolutions but those of 1x1: parts of the channels that do not see each "
        "other",
    )
    activation: Activation = Field(default="relu", description="before each convolution")
    dropout_rate: float = Field(
        default=0.0, ge=0, lt=1, description="before the last convolution of a block"
    )
    stochastic_depth_rate: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="of what the last block adds; of those before, less in proportion",
    )
    layer_scale: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="first value of a factor for each channel of what is added; null: none",
    )
    zero_init: bool = Field(
        default=False,
        description="whether the last convolution starts at zero, so that it adds nothing at first",
    )


class HeadConfig(Section):
    """What makes logits of the last stage's output."""

    pooling: Literal["mean", "max"] = Field(default="mean", description="over all pixels")
    dropout_rate: float = Field(default=0.0, ge=0, lt=1, description="of what is pooled")


class CnnSections(Section):
    """All keys of a convolutional network; `config.CnnConfig` checks that they agree."""

    image: ImageConfig
    num_classes: int = Field(ge=2, le=MAX_INTEGER, description="logits that come out")
    fourier_values: FourierFeaturesConfig = Field(
        default=FourierFeaturesConfig(), description="of the values of each pixel"
    )
    fourier_coordinates: FourierFeaturesConfig = Field(
        default=FourierFeaturesConfig(), description="of where each pixel is, from 0 to 1"
    )
    stem: StemConfig = StemConfig()
    widths: Widths = Field(
        default=(32, 64), min_length=1, description="channels of each stage, one number a stage"
    )
    depths: Depths = Field(
        default=(2, 2), min_length=1, description="blocks of each stage, one number a stage"
    )
    strides: Strides = Field(
        default=(1, 2),
        min_length=1,
        description="by which each stage's first block divides the sides of its images",
    )
    block: BlockConfig = BlockConfig()
    norm: ImageNormConfig = Field(default=ImageNormConfig(), description="before each convolution")
    squeeze_excitation: SqueezeExcitationConfig = Field(
        default=SqueezeExcitationConfig(), description="of what each block's convolutions add"
    )
    blur_filter_size: int | None = Field(
        default=None,
        ge=2,
        le=7,
        description="of the blur against aliasing, in pixels, wherever blocks and the stem's pool "
        "stride; null: there is none",
    )
    attention_stages: Stages = Field(
        default=(), description="whose blocks mix pixels by attention, too; 0 is the first"
    )
    attention: AttentionConfig = Field(
        default=AttentionConfig(), description="of pixels, row by row, in attention_stages"
    )
    expert_stages: Stages = Field(
        default=(), description="whose blocks have a mixture of experts, too; 0 is the first"
    )
    mixture_of_experts: MixtureConfig | None = Field(
        default=None, description="of pixels, in expert_stages"
    )
    feed_forward: FeedForwardConfig = Field(
        default=FeedForwardConfig(), description="each expert of mixture_of_experts"
    )
    reversible_stages: Stages = Field(
        default=(),
        description="whose blocks keep no activations for the way back, but for one that changes "
        "shape; 0 is the first",
    )
    checkpointed_stages: Stages | None = Field(
        default=None, description="whose blocks the run's checkpointing is for; null: all"
    )
    head: HeadConfig = HeadConfig()
