"""What a residual convolutional network is made of, described once for both frameworks."""

from collections.abc import Iterator
from typing import Self

from pydantic import model_validator

from base.config import refuse_unheeded
from models.cnn.plan import BlockPlan, StagePlan, blocks, pooled_sides, stages, stem_sides
from models.cnn.sections import MAX_BLOCKS, CnnSections
from models.layers.attention.config import check_attention
from models.layers.downsampling.filters import min_side
from models.layers.positions.config import PositionsConfig

_LISTS_OF_STAGES = (
    "attention_stages",
    "expert_stages",
    "reversible_stages",
    "checkpointed_stages",
)


class CnnConfig(CnnSections):
    """A residual network whose blocks add to images what convolutions make of them.

    Each branch normalises its input itself, so that what is added to is never touched.

    Reference: He et al., "Identity Mappings in Deep Residual Networks",
    https://arxiv.org/abs/1603.05027; Gomez et al., "The Reversible Residual Network",
    https://arxiv.org/abs/1707.04585; Zhang, "Making Convolutional Networks Shift-Invariant Again",
    https://arxiv.org/abs/1904.11486.
    """

    @model_validator(mode="after")
    def _check(self) -> Self:
        # Each presumes the ones before.
        self._check_lengths()
        self._check_lists_of_stages()
        self._check_widths()
        self._check_norm()
        self._check_attention()
        self._check_experts()
        self._check_reversible()
        self._check_blur()
        if self.block.zero_init and self.block.layer_scale == 0:
            raise ValueError(
                "block.zero_init with block.layer_scale 0: of a product of two zeros neither "
                "learns; choose one of them, or a layer_scale above 0"
            )
        return self

    def _check_lengths(self) -> None:
        lengths = {key: len(getattr(self, key)) for key in ("widths", "depths", "strides")}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            raise ValueError(f"one number a stage is expected of each of these, but {listed}")
        if sum(self.depths) > MAX_BLOCKS:
            raise ValueError(
                f"depths: expected at most {MAX_BLOCKS} blocks in all, got {sum(self.depths)}"
            )

    def _check_lists_of_stages(self) -> None:
        for key in _LISTS_OF_STAGES:
            listed = getattr(self, key) or ()
            if len(set(listed)) < len(listed) or any(s >= len(self.widths) for s in listed):
                raise ValueError(
                    f"{key} {list(listed)}: expected different stages from 0 to "
                    f"{len(self.widths) - 1}"
                )

    def _check_widths(self) -> None:
        block = self.block
        if block.kind != "bottleneck":
            refuse_unheeded(
                block, ("expansion",), heeded="with block.kind bottleneck", prefix="block."
            )
        for stage, width in enumerate(self.widths):
            of = f"widths[{stage}]"
            if stage in self.reversible_stages:
                _require_multiple(of, width, "the 2 halves of a reversible stage", 2)
                of, width = f"half of {of}", width // 2
            if block.kind == "bottleneck":
                _require_multiple(of, width, "block.expansion", block.expansion)
        for plan in blocks(self):
            for conv in plan.convs:
                for channels in (conv.inputs, conv.outputs) if conv.groups > 1 else ():
                    _require_multiple(
                        f"the width of a convolution in {plan.name}",
                        channels,
                        "block.groups",
                        block.groups,
                    )
        if self.norm.has_groups:
            for name, channels, _ in self._normalised():
                _require_multiple(
                    f"the width of a norm in {name}",
                    channels,
                    "norm.num_groups",
                    self.norm.num_groups,
                )

    def _check_norm(self) -> None:
        for name, channels, pixels in self._normalised():
            if self.norm.values(channels, pixels) == 1:
                raise ValueError(
                    f"norm.kind {self.norm.kind} is of one value at a time in {name} (channels: "
                    f"{channels}, pixels: {pixels}), of which nothing is left; choose another "
                    "kind, fewer strides or a larger image"
                )

    def _normalised(self) -> Iterator[tuple[str, int, int]]:
        """Yields where something is normalised, and of how many channels and pixels it is."""
        height, width = pooled_sides(self)
        pixels = height * width
        for plan in blocks(self):
            for conv in plan.convs:
                yield plan.name, conv.inputs, pixels
                # The blur, which strides in its place, comes before the last convolution.
                if conv.stride > 1 and self.blur_filter_size is None:
                    pixels = plan.num_pixels
            pixels = plan.num_pixels
            if plan.num_branches > 1:
                yield plan.name, plan.width, pixels
        yield "the head", self.widths[-1], pixels

    def _check_attention(self) -> None:
        if self.attention.kind == "none" and self.attention_stages:
            raise ValueError(
                f"attention_stages {list(self.attention_stages)} needs attention.kind attention "
                "or linear_attention"
            )
        if self.attention.kind != "none" and not self.attention_stages:
            raise ValueError(
                f"attention.kind {self.attention.kind} needs attention_stages, such as "
                f"[{len(self.widths) - 1}]"
            )
        for plan in blocks(self):
            if plan.has_attention:
                check_attention(self.attention, PositionsConfig(), plan.width, name="attention")

    def _check_experts(self) -> None:
        experts = self.mixture_of_experts
        if experts is None:
            refuse_unheeded(
                self, ("expert_stages", "feed_forward"), heeded="with mixture_of_experts"
            )
            return
        plans = [plan for plan in blocks(self) if plan.has_experts]
        if not plans:
            raise ValueError(
                f"mixture_of_experts needs expert_stages, such as [{len(self.widths) - 1}], of at "
                f"least mixture_of_experts.every ({experts.every}) blocks"
            )
        for plan in plans:
            try:
                experts.check_input(tokens=plan.num_pixels, causal=self.attention.causal)
            except ValueError as error:
                raise ValueError(f"mixture_of_experts.{error}") from None

    def _check_reversible(self) -> None:
        for stage in self.reversible_stages:
            plan = self.stages[stage]
            if sum(block.num_branches for block in plan.reversible) < 2:
                raise ValueError(
                    f"reversible_stages: stage {stage} has fewer than 2 branches that keep its "
                    f"shape, one for each half of the channels; raise depths[{stage}] "
                    f"({self.depths[stage]})"
                )

    def _check_blur(self) -> None:
        size = self.blur_filter_size
        if size is None:
            return
        sides = list(self._blurred_sides())
        if not sides:
            raise ValueError(
                f"blur_filter_size {size}: nothing strides, neither strides {list(self.strides)} "
                "nor stem.pool; leave it out"
            )
        for name, side in sides:
            if side < min_side(size):
                raise ValueError(
                    f"blur_filter_size {size} needs images of at least {min_side(size)} pixels a "
                    f"side, but {name} has {side}; choose a smaller one, or fewer strides"
                )

    def _blurred_sides(self) -> Iterator[tuple[str, int]]:
        """Yields the shorter sides of what is blurred, and where."""
        if self.stem.pool != "none":
            yield "the stem's pool", min(stem_sides(self))
        sides = pooled_sides(self)
        for plan in blocks(self):
            if plan.stride > 1:
                yield plan.name, min(sides)
            sides = (plan.height, plan.image_width)

    @property
    def stages(self) -> tuple[StagePlan, ...]:
        """What is built, stage by stage."""
        return stages(self)

    @property
    def blocks(self) -> tuple[BlockPlan, ...]:
        """What is built, block by block."""
        return tuple(blocks(self))

    @property
    def min_batch_size(self) -> int:
        """Examples of which each channel has a variance: 1, or 2 where images have one pixel."""
        pixels = (number for _, _, number in self._normalised())
        return 2 if self.norm.has_statistics and min(pixels) == 1 else 1

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, `(height, width, channels)`."""
        return (self.image.height, self.image.width, self.image.num_channels)


def _require_multiple(what: str, number: int, of: str, divisor: int) -> None:
    if number % divisor:
        above = -(-number // divisor) * divisor
        below = above - divisor
        fitting = f"{below} or {above}" if below else f"{above}"
        raise ValueError(
            f"{what} is {number}, not a multiple of {of} ({divisor}); {fitting} would fit"
        )
