"""How tokens say where they stand."""

from typing import Self

from pydantic import Field, model_validator

from base.config import Section, refuse_unheeded


class LearnedPositionsConfig(Section):
    """A learned vector for each position, added to its token."""

    enabled: bool = Field(default=False, description="add a learned vector to every token")
    # A tenth of an embedded patch or so; a token that is to say from the start where it stands
    # wants one as large as its own values.
    stddev: float = Field(default=0.02, ge=0, le=10, description="of the vectors' first values")


class RotaryConfig(Section):
    """Queries and keys turned by their positions, so that scores depend on distances."""

    enabled: bool = Field(default=False, description="turn queries and keys by their positions")
    base: float = Field(
        default=10000.0, ge=1, le=1e9, description="wave length of the slowest pair / 2 pi, nearly"
    )
    fraction: float = Field(default=1.0, gt=0, le=1, description="share of a head that turns")
    interpolation: float = Field(
        default=1.0,
        ge=1,
        le=65536,
        description="positions are divided by it, for inputs so many times longer than before",
    )


class AlibiConfig(Section):
    """Scores lowered in proportion to distance, more steeply from head to head."""

    enabled: bool = Field(default=False, description="lower scores in proportion to distance")
    learned: bool = Field(default=False, description="whether slopes are learned from a series on")


class PositionsConfig(Section):
    """Where tokens stand; any of them together.

    Reference: Su et al., "RoFormer", https://arxiv.org/abs/2104.09864, of rotary positions; Chen et
    al., "Extending Context Window of Large Language Models via Positional Interpolation",
    https://arxiv.org/abs/2306.15595; Press et al., "Train Short, Test Long",
    https://arxiv.org/abs/2108.12409, of ALiBi.
    """

    learned: LearnedPositionsConfig = LearnedPositionsConfig()
    rotary: RotaryConfig = RotaryConfig()
    alibi: AlibiConfig = AlibiConfig()

    @model_validator(mode="after")
    def _check_keys_are_heeded(self) -> Self:
        for name, kind in (
            ("learned", self.learned),
            ("rotary", self.rotary),
            ("alibi", self.alibi),
        ):
            if not kind.enabled:
                keys = [key for key in type(kind).model_fields if key != "enabled"]
                refuse_unheeded(kind, keys, heeded=f"with {name}.enabled", prefix=f"{name}.")
        return self
