"""What a convolutional network's configuration comes to, block by block; of both frameworks."""

from collections.abc import Iterator
from typing import NamedTuple

from models.cnn.sections import CnnSections
from models.layers.fourier_features.coordinates import NUM_COORDINATES


class ConvPlan(NamedTuple):
    """One convolution of a block, after a norm of its inputs and the activation."""

    inputs: int
    outputs: int
    kernel_size: int = 1
    stride: int = 1
    groups: int = 1


class BlockPlan(NamedTuple):
    """One residual block.

    Attributes:
        name: Canonical.
        inputs: Channels that come in.
        width: Channels that go out, of what each branch adds; of a reversible block, half of them.
        stride: By which the sides of images are divided.
        height: Of the images that go out, in pixels.
        image_width: Of the images that go out, in pixels.
        convs: Of the first branch.
        has_attention: Whether there is a branch of attention.
        has_experts: Whether there is a branch of experts.
        depth_rate: Of stochastic depth.
    """

    name: str
    inputs: int
    width: int
    stride: int
    height: int
    image_width: int
    convs: tuple[ConvPlan, ...]
    has_attention: bool
    has_experts: bool
    depth_rate: float

    @property
    def changes_shape(self) -> bool:
        """Whether what comes in cannot be added to as it is."""
        return self.stride > 1 or self.inputs != self.width

    @property
    def num_branches(self) -> int:
        """How many residual branches there are."""
        return 1 + self.has_attention + self.has_experts

    @property
    def num_pixels(self) -> int:
        """Of an image that goes out."""
        return self.height * self.image_width


class StagePlan(NamedTuple):
    """Blocks of one width.

    Attributes:
        blocks: Those that keep what they need for the way back; of a reversible stage, one that
            changes the shape, if there is any.
        reversible: Those that keep nothing.
        is_checkpointed: Whether the run's checkpointing is for `blocks`.
    """

    blocks: tuple[BlockPlan, ...]
    reversible: tuple[BlockPlan, ...]
    is_checkpointed: bool


def num_inputs(config: CnnSections) -> int:
    """Returns how many values of each pixel the stem is given."""
    coordinates = config.fourier_coordinates
    values = config.fourier_values.num_features(config.image.num_channels)
    return values + (coordinates.num_features(NUM_COORDINATES) if coordinates.enabled else 0)


def stem_sides(config: CnnSections) -> tuple[int, int]:
    """Returns height and width of images after the stem's convolution, before its pool."""
    stem, image = config.stem, config.image
    return _divided(image.height, stem.stride), _divided(image.width, stem.stride)


def pooled_sides(config: CnnSections) -> tuple[int, int]:
    """Returns height and width of images that the first stage is given."""
    height, width = stem_sides(config)
    return (
        (height, width) if config.stem.pool == "none" else (_divided(height, 2), _divided(width, 2))
    )


def stages(config: CnnSections) -> tuple[StagePlan, ...]:
    """Returns the plan of every stage."""
    height, width = pooled_sides(config)
    plans, inputs, before = [], config.stem.width, 0
    for stage, (channels, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
        stride = config.strides[stage]
        height, width = _divided(height, stride), _divided(width, stride)
        blocks = tuple(
            _block(
                config,
                stage,
                index,
                inputs=channels if index else inputs,
                stride=1 if index else stride,
                sides=(height, width),
                number=before + index,
            )
            for index in range(depth)
        )
        plans.append(_stage(config, stage, blocks))
        inputs, before = channels, before + depth
    return tuple(plans)


def blocks(config: CnnSections) -> Iterator[BlockPlan]:
    """Yields the plan of every block."""
    for stage in stages(config):
        yield from stage.blocks
        yield from stage.reversible


def _stage(config: CnnSections, stage: int, blocks: tuple[BlockPlan, ...]) -> StagePlan:
    checkpointed = config.checkpointed_stages
    is_checkpointed = checkpointed is None or stage in checkpointed
    if stage not in config.reversible_stages:
        return StagePlan(blocks, (), is_checkpointed)
    first = 1 if blocks[0].changes_shape else 0
    halves = (_halved(config, block) for block in blocks[first:])
    return StagePlan(blocks[:first], tuple(halves), is_checkpointed)


def _block(
    config: CnnSections,
    stage: int,
    index: int,
    *,
    inputs: int,
    stride: int,
    sides: tuple[int, int],
    number: int,
) -> BlockPlan:
    width, rate = config.widths[stage], config.block.stochastic_depth_rate
    experts = config.mixture_of_experts
    return BlockPlan(
        name=f"stages.{stage}.{index}",
        inputs=inputs,
        width=width,
        stride=stride,
        height=sides[0],
        image_width=sides[1],
        convs=_convs(config, inputs, width, stride),
        has_attention=stage in config.attention_stages,
        has_experts=(
            experts is not None
            and stage in config.expert_stages
            and experts.has_experts(_among_experts(config, stage) + index)
        ),
        depth_rate=rate * (number + 1) / sum(config.depths),
    )


def _among_experts(config: CnnSections, stage: int) -> int:
    """Counts the blocks of earlier stages that experts may be in."""
    return sum(config.depths[other] for other in config.expert_stages if other < stage)


def _halved(config: CnnSections, block: BlockPlan) -> BlockPlan:
    """Returns the plan of a reversible block: each branch sees half of the channels."""
    half = block.width // 2
    return block._replace(inputs=half, width=half, convs=_convs(config, half, half, 1))


def _convs(config: CnnSections, inputs: int, width: int, stride: int) -> tuple[ConvPlan, ...]:
    block = config.block
    size, groups = block.kernel_size, block.groups
    if block.kind == "basic":
        return (
            ConvPlan(inputs, width, size, stride, groups),
            ConvPlan(width, width, size, 1, groups),
        )
    middle = width // block.expansion
    return (
        ConvPlan(inputs, middle),
        ConvPlan(middle, middle, size, stride, groups),
        ConvPlan(middle, width),
    )


def _divided(side: int, stride: int) -> int:
    return -(-side // stride)
