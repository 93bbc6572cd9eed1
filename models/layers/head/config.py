"""What a network answers, made of what it knows of each token."""

from typing import Literal, Self

from pydantic import Field, model_validator

from base.config import MAX_INTEGER, Section, refuse_unheeded


class HeadConfig(Section):
    """The last layer: logits of classes or of the next token, or numbers."""

    kind: Literal["classification", "next_token", "regression"] = Field(
        default="classification",
        description="logits of classes; of the token after each token; or numbers",
    )
    num_targets: int | None = Field(
        default=None, ge=1, le=MAX_INTEGER, description="of regression: numbers of an answer"
    )
    pooling: Literal["mean", "class_token", "last"] = Field(
        default="mean",
        description="of what one answer is made: all tokens, one that is learned and put in front, "
        "or the last one",
    )
    bias: bool = Field(default=True, description="whether the layer adds one")
    dropout_rate: float = Field(default=0.0, ge=0, lt=1, description="of what the layer is given")
    tied: bool = Field(
        default=False,
        description="of next_token: the layer's weight is that of the tokens' embedding",
    )
    logit_softcap: float | None = Field(
        default=None, gt=0, description="logits z become softcap * tanh(z / softcap); null: as is"
    )

    @model_validator(mode="after")
    def _check_keys_are_heeded(self) -> Self:
        if self.kind != "next_token":
            refuse_unheeded(self, ("tied",), heeded="with kind next_token")
        else:
            heeded = "with kind classification or regression"
            refuse_unheeded(self, ("pooling",), heeded=heeded)
        if self.kind != "regression":
            refuse_unheeded(self, ("num_targets",), heeded="with kind regression")
        else:
            heeded = "with kind classification or next_token"
            refuse_unheeded(self, ("logit_softcap",), heeded=heeded)
            if self.num_targets is None:
                raise ValueError("num_targets is missing, which kind regression needs")
        return self
