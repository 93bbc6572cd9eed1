"""What tokens learn from each other, and how."""

from typing import Literal, Self

from pydantic import Field, model_validator

from base.config import MAX_INTEGER, Section, refuse_unheeded
from models.layers.norm.config import NormConfig
from models.layers.positions.config import PositionsConfig
from models.layers.positions.rotary import rotary_dim

_OF_ATTENTION = ("window", "softcap", "softmax_scale", "dropout_rate")
_OF_LINEAR_ATTENTION = ("feature_map", "normalize", "eps", "decay")
_OF_BOTH = ("num_kv_heads", "causal", "qkv_bias", "out_bias", "qk_norm")


class QkNormConfig(NormConfig):
    """A normalisation of each head's queries and keys, before they are turned or compared.

    Reference: Henry et al., "Query-Key Normalization for Transformers",
    https://arxiv.org/abs/2010.04245; Dehghani et al., "Scaling Vision Transformers to 22 Billion
    Parameters", https://arxiv.org/abs/2302.05442.
    """

    enabled: bool = Field(default=False, description="normalise each head's queries and keys")
    kind: Literal["layer", "rms"] = Field(
        default="rms", description="rms leaves the mean as it is and has no bias"
    )

    @model_validator(mode="after")
    def _check_it_is_heeded(self) -> Self:
        if not self.enabled:
            refuse_unheeded(self, ("kind", "epsilon"), heeded="with qk_norm.enabled")
        return self


class AttentionConfig(Section):
    """A mixer of tokens: multi-head attention, or linear attention, on our own kernels."""

    kind: Literal["none", "attention", "linear_attention"] = Field(
        default="none", description="what mixes tokens: nothing, softmax or linear attention"
    )
    num_heads: int = Field(default=1, ge=1, le=MAX_INTEGER, description="of queries; divides width")
    num_kv_heads: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INTEGER,
        description="of keys and values, divides num_heads; 1: multi-query; null: num_heads",
    )
    causal: bool = Field(default=False, description="tokens see themselves and those before alone")
    qkv_bias: bool = Field(default=True, description="whether queries, keys and values add one")
    out_bias: bool = Field(default=True, description="whether the layer after the heads adds one")
    qk_norm: QkNormConfig = QkNormConfig()
    window: int | None = Field(
        default=None,
        ge=0,
        le=MAX_INTEGER,
        description="of attention: how many tokens to either side are seen; null: all",
    )
    softcap: float | None = Field(
        default=None,
        gt=0,
        description="of attention: scores s become softcap * tanh(s / softcap); null: as they are",
    )
    softmax_scale: float | None = Field(
        default=None, gt=0, description="of attention: factor of scores; null: head_dim^-1/2"
    )
    # The kernel takes a Python number, so the schedule of other dropouts does not reach it.
    dropout_rate: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="of attention's probabilities; the same all through training",
    )
    feature_map: Literal["elu", "relu", "identity"] = Field(
        default="elu", description="of linear attention's queries and keys; elu is elu(x) + 1"
    )
    normalize: bool = Field(
        default=True,
        description="of linear attention: divide by the sum of weights, or else by head_dim^1/2",
    )
    # At 0, a token whose weights are all zero, as of padding or by the feature map, would be NaN.
    eps: float = Field(
        default=1e-6, gt=0, le=1, description="of linear attention: added to the sum of weights"
    )
    decay: Literal["none", "fixed", "learned"] = Field(
        default="none",
        description="of linear attention: what is past fades, at a rate of each head; as RetNet's, "
        "or learned from there on",
    )

    @model_validator(mode="after")
    def _check_keys_are_heeded(self) -> Self:
        if self.kind != "attention":
            refuse_unheeded(self, _OF_ATTENTION, heeded="with kind attention")
        if self.kind != "linear_attention":
            refuse_unheeded(self, _OF_LINEAR_ATTENTION, heeded="with kind linear_attention")
        if self.kind == "none":
            heeded = "with kind attention or linear_attention"
            refuse_unheeded(self, ("num_heads", *_OF_BOTH), heeded=heeded)
        return self

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.num_heads % self.kv_heads:
            raise ValueError(
                f"num_kv_heads {self.num_kv_heads} does not divide num_heads {self.num_heads}; "
                f"{_nearest_divisors(self.num_heads, self.kv_heads)} would fit"
            )
        return self

    @model_validator(mode="after")
    def _check_linear_attention(self) -> Self:
        if not self.normalize:
            refuse_unheeded(self, ("eps",), heeded="with normalize")
        if self.kind == "linear_attention" and self.normalize and self.feature_map == "identity":
            raise ValueError(
                "feature_map identity gives negative weights, whose sum normalize cannot divide "
                "by; choose elu or relu, or normalize: false"
            )
        if self.decay != "none" and not self.causal:
            raise ValueError(
                f"decay {self.decay} is by the distance from the past, which causal: true alone "
                "knows; set it, or decay: none"
            )
        return self

    @property
    def kv_heads(self) -> int:
        """Number of heads of keys and values."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads


def check_attention(
    config: AttentionConfig, positions: PositionsConfig, width: int, *, name: str
) -> None:
    """Checks what a mixer, positions and a width ask of each other; for validators of networks.

    Args:
        config: The mixer.
        positions: Where its tokens stand.
        width: Of its tokens.
        name: Of the mixer's section, for the message.

    Raises:
        ValueError: They do not fit; it says what would.
    """
    if config.kind != "attention":
        for kind, section in (("rotary", positions.rotary), ("alibi", positions.alibi)):
            if section.enabled:
                raise ValueError(
                    f"positions.{kind}.enabled: it turns or lowers the scores of {name}.kind "
                    f"attention, not of {config.kind}; choose attention, or positions.learned"
                )
    if config.kind == "none":
        return
    if width % config.num_heads:
        raise ValueError(
            f"a width of {width} is not a multiple of {name}.num_heads {config.num_heads}; "
            f"{_nearest_divisors(width, config.num_heads)} would fit"
        )
    if config.qk_norm.enabled and config.qk_norm.kind == "layer" and width == config.num_heads:
        raise ValueError(
            f"{name}.qk_norm.kind layer leaves nothing of heads of 1; choose rms or fewer heads "
            f"({name}.num_heads {config.num_heads})"
        )
    if positions.rotary.enabled:
        rotary_dim(positions.rotary, width // config.num_heads)


def _nearest_divisors(number: int, near: int) -> str:
    """Names the divisors of a number on either side of another one that is none."""
    below = [d for i in range(1, 1025) if number % i == 0 for d in (i, number // i)]
    sides = (
        max((d for d in below if d < near), default=None),
        min((d for d in below if d > near), default=None),
    )
    return " or ".join(str(side) for side in sides if side is not None)
