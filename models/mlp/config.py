"""What a residual stack is made of: a multi-layer perceptron, a transformer, or between them."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from base.config import FROM_LIST, MAX_INTEGER, Section, refuse_unheeded, shown
from models.layers.activation.names import Activation
from models.layers.attention.config import AttentionConfig, check_attention
from models.layers.embedding.config import InputConfig
from models.layers.feed_forward.config import FeedForwardConfig
from models.layers.head.config import HeadConfig
from models.layers.mixture_of_experts.config import MixtureConfig
from models.layers.norm.config import NormConfig
from models.layers.positions.config import PositionsConfig

# As many were trained once, https://arxiv.org/abs/2203.00555; each is compiled by itself.
MAX_BLOCKS = 1000

MAX_WIDTH = 2**20

_Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]


def _check_numbers_of_blocks(value: Any) -> Any:
    """Takes one number, or a list of them, in one message."""
    numbers = value if isinstance(value, (list, tuple)) else [value]
    if not all(type(number) is int and 0 <= number <= MAX_BLOCKS for number in numbers):
        raise ValueError(
            f"expected an integer from 0 to {MAX_BLOCKS}, or a list of them, got {shown(value)}"
        )
    return tuple(value) if isinstance(value, list) else value


class StochasticDepthConfig(Section):
    """Residual branches that are left out at random in training, of an example at a time.

    Reference: Huang et al., "Deep Networks with Stochastic Depth", https://arxiv.org/abs/1603.09382.
    """

    rate: float = Field(default=0.0, ge=0, lt=1, description="of the last block")
    ramp: Literal["linear", "constant"] = Field(
        default="linear", description="from the first block to the last, or the same for all"
    )

    @model_validator(mode="after")
    def _check_keys_are_heeded(self) -> Self:
        if self.rate == 0:
            refuse_unheeded(self, ("ramp",), heeded="with a rate above 0")
        return self

    def of(self, block: int, num_blocks: int) -> float:
        """Returns the rate of the block of this number, from 0."""
        return self.rate * (block + 1) / num_blocks if self.ramp == "linear" else self.rate


class BlockConfig(Section):
    """A block's residual branches: a mixer, if there is one, and a feed-forward."""

    norm_placement: Literal["before", "after"] = Field(
        default="before", description="of what a branch is given, or of the sum that it is added to"
    )
    layer_scale: float | None = Field(
        default=None,
        ge=0,
        le=10,
        description="first values of the factors of what a branch adds, one a feature; null: none",
    )
    zero_init: bool = Field(
        default=False, description="the last matrix of each branch starts at zero: it adds nothing"
    )
    dropout_rate: float = Field(default=0.0, ge=0, lt=1, description="of what a branch adds")
    stochastic_depth: StochasticDepthConfig = StochasticDepthConfig()

    @model_validator(mode="after")
    def _check_branches_learn(self) -> Self:
        if self.zero_init and self.layer_scale == 0:
            raise ValueError(
                "zero_init with layer_scale 0: of a product of two zeros neither learns; choose "
                "one of them, or a layer_scale above 0"
            )
        return self


class MlpConfig(Section):
    """Stages of blocks: a linear layer leads into each, as wide as `hidden_sizes` say.

    With `hidden_sizes` alone it is the plain multi-layer perceptron; with one width, activation
    `identity`, blocks and a mixer, a transformer.

    Reference: Vaswani et al., "Attention Is All You Need", https://arxiv.org/abs/1706.03762; of
    layer scale Touvron et al., "Going deeper with Image Transformers",
    https://arxiv.org/abs/2103.17239.
    """

    input: InputConfig = Field(description="what it reads")
    hidden_sizes: Annotated[tuple[_Width, ...], FROM_LIST] = Field(
        min_length=1, max_length=MAX_BLOCKS, description="width of each stage"
    )
    num_blocks: Annotated[int | tuple[int, ...], BeforeValidator(_check_numbers_of_blocks)] = Field(
        default=0, description="of every stage, or of each, in a list"
    )
    activation: Activation = Field(
        default="relu", description="after the layer that leads into a stage"
    )
    dropout_rate: float = Field(
        default=0.0, ge=0, lt=1, description="after each of these activations"
    )
    num_classes: int | None = Field(
        default=None, ge=2, le=MAX_INTEGER, description="of head.kind classification"
    )
    embedding_dropout_rate: float = Field(
        default=0.0, ge=0, lt=1, description="of tokens, once they know their positions"
    )
    positions: PositionsConfig = PositionsConfig()
    mixer: AttentionConfig = AttentionConfig()
    feed_forward: FeedForwardConfig = FeedForwardConfig()
    mixture_of_experts: MixtureConfig | None = Field(
        default=None, description="in place of feed-forwards; each expert is one of them"
    )
    norm: NormConfig = NormConfig()
    block: BlockConfig = BlockConfig()
    final_norm: bool = Field(default=False, description="whether what the head is given is normed")
    head: HeadConfig = HeadConfig()

    @model_validator(mode="after")
    def _check_blocks(self) -> Self:
        if isinstance(self.num_blocks, tuple) and len(self.num_blocks) != len(self.hidden_sizes):
            raise ValueError(
                f"num_blocks lists {len(self.num_blocks)} stages, hidden_sizes "
                f"{len(self.hidden_sizes)}; expected as many, or one number for all"
            )
        if self.total_blocks > MAX_BLOCKS:
            raise ValueError(
                f"num_blocks: expected at most {MAX_BLOCKS} in all, got {self.total_blocks}"
            )
        if self.total_blocks == 0:
            keys = ("mixer", "feed_forward", "mixture_of_experts", "block")
            refuse_unheeded(self, keys, heeded="with num_blocks above 0")
            if not self.final_norm:
                refuse_unheeded(self, ("norm",), heeded="with num_blocks above 0 or final_norm")
        return self

    @model_validator(mode="after")
    def _check_norm(self) -> Self:
        normalised = {*self.block_widths, *self.hidden_sizes[-1:][: self.final_norm]}
        if self.norm.kind == "layer" and 1 in normalised:
            raise ValueError(
                "norm.kind layer leaves nothing of a width of 1; choose rms, or make hidden_sizes "
                f"{list(self.hidden_sizes)} wider"
            )
        return self

    @model_validator(mode="after")
    def _check_mixer(self) -> Self:
        for width, blocks in zip(self.hidden_sizes, self.blocks_of_stages, strict=True):
            if blocks:
                check_attention(self.mixer, self.positions, width, name="mixer")
        if self.total_blocks == 0:
            # Nothing turns queries or lowers scores.
            check_attention(self.mixer, self.positions, 1, name="mixer")
        if self.input.vector is not None:
            if self.mixer.kind != "none":
                raise ValueError(
                    f"mixer.kind {self.mixer.kind} mixes tokens, and input.vector is one; choose "
                    "input.patches or input.tokens, or mixer.kind none"
                )
            if self.positions.learned.enabled:
                raise ValueError(
                    "positions.learned.enabled: input.vector has one position; choose "
                    "input.patches or input.tokens, or leave it out"
                )
        return self

    @model_validator(mode="after")
    def _check_mixture(self) -> Self:
        experts = self.mixture_of_experts
        if experts is None:
            return self
        if experts.every > self.total_blocks:
            raise ValueError(
                f"mixture_of_experts.every {experts.every} gives none of {self.total_blocks} "
                f"blocks experts; expected from 1 to {self.total_blocks}"
            )
        causal = self.mixer.causal or self.head.kind == "next_token"
        try:
            experts.check_input(tokens=self.input.seq_len, causal=causal)
        except ValueError as error:
            raise ValueError(f"mixture_of_experts.{error}") from None
        return self

    @model_validator(mode="after")
    def _check_head(self) -> Self:
        kind = self.head.kind
        if kind == "classification" and self.num_classes is None:
            raise ValueError("num_classes is missing, which head.kind classification needs")
        if kind != "classification":
            refuse_unheeded(self, ("num_classes",), heeded="with head.kind classification")
        if kind == "next_token":
            self._check_next_token()
        elif self.head.pooling != "mean":
            self._check_pooling()
        return self

    def _check_next_token(self) -> None:
        if self.input.tokens is None:
            raise ValueError("head.kind next_token needs input.tokens")
        if self.mixer.kind != "none" and not self.mixer.causal:
            raise ValueError(
                "head.kind next_token needs mixer.causal: true, or tokens see what they are to tell"
            )
        first, last = self.hidden_sizes[0], self.hidden_sizes[-1]
        if self.head.tied and first != last:
            raise ValueError(
                f"head.tied: the last of hidden_sizes is {last}, the embedding's width {first}; "
                "expected the same"
            )

    def _check_pooling(self) -> None:
        pooling = self.head.pooling
        if self.input.vector is not None:
            raise ValueError(f"head.pooling {pooling}: input.vector is one token; leave it out")
        if pooling == "class_token":
            if self.mixer.kind == "none":
                raise ValueError(
                    "head.pooling class_token: without mixer.kind attention or linear_attention it "
                    "learns of no other token; choose mean or last"
                )
            if self.mixer.causal:
                raise ValueError(
                    "head.pooling class_token: in front of all, it sees none with mixer.causal; "
                    "choose last, or causal: false"
                )

    @property
    def blocks_of_stages(self) -> tuple[int, ...]:
        """Number of blocks of each stage."""
        if isinstance(self.num_blocks, tuple):
            return self.num_blocks
        return (self.num_blocks,) * len(self.hidden_sizes)

    @property
    def total_blocks(self) -> int:
        """Number of blocks of all stages."""
        return sum(self.blocks_of_stages)

    @property
    def block_widths(self) -> tuple[int, ...]:
        """Width of each block."""
        stages = zip(self.hidden_sizes, self.blocks_of_stages, strict=True)
        return tuple(width for width, blocks in stages for _ in range(blocks))

    @property
    def seq_len(self) -> int:
        """Number of tokens that a block is given, at most; a class token is one."""
        return self.input.seq_len + (self.head.pooling == "class_token")

    @property
    def num_outputs(self) -> int:
        """Number of values of an answer."""
        if self.head.kind == "next_token":
            return self.input.num_features
        outputs = self.num_classes if self.head.kind == "classification" else self.head.num_targets
        assert outputs is not None
        return outputs

    def has_experts(self, block: int) -> bool:
        """Says whether the block of this number, from 0, has a mixture of experts."""
        experts = self.mixture_of_experts
        return experts is not None and experts.has_experts(block)
