"""What a mixture of experts is."""

import math
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from base.config import Section

# Random numbers of a row are made of 24 bits of its token and 8 of its expert.
MAX_EXPERTS = 256


class MixtureConfig(Section):
    """Feed-forwards of which each token goes through a few, chosen by a learned router.

    Capacity is counted for each example by itself, so that nothing in an example depends on the
    others in its batch: it may go to `capacity_factor * tokens * top_k / num_experts` of its
    tokens, rounded up, padding not counted. Losses and metrics are of all tokens of a batch.
    """

    num_experts: int = Field(default=8, ge=2, le=MAX_EXPERTS, description="feed-forwards")
    top_k: int = Field(
        default=2,
        ge=1,
        le=MAX_EXPERTS,
        description="experts a token; under expert_choice their mean at a capacity factor of 1",
    )
    routing: Literal["top_k", "expert_choice"] = Field(
        default="top_k", description="whether tokens choose their experts or experts their tokens"
    )
    gate: Literal["softmax", "sigmoid"] = Field(
        default="softmax", description="from the router's logits to the weights of experts"
    )
    normalize_gates: bool = Field(
        default=False, description="whether the weights of a token's chosen experts add up to 1"
    )
    capacity_factor: float | None = Field(
        default=None,
        gt=0,
        le=MAX_EXPERTS,
        description="tokens that an expert has room for / tokens it gets if all get as many; later "
        "ones are dropped; null: it has room for all",
    )
    load_balance_weight: float = Field(
        default=0.0, ge=0, le=100, description="of the Switch loss, least if experts are used alike"
    )
    router_z_weight: float = Field(
        default=0.0, ge=0, le=100, description="of the loss that keeps the router's logits small"
    )
    router_jitter: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="in training the router's inputs are multiplied by numbers uniform within this "
        "of 1",
    )
    router_noise: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="standard deviation of what is added to the router's logits in training",
    )
    num_shared_experts: int = Field(
        default=0, ge=0, le=MAX_EXPERTS, description="further feed-forwards, for every token"
    )
    every: int = Field(
        default=1, ge=1, le=1000, description="1 in so many blocks has experts, the last of them"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.top_k > self.num_experts:
            raise ValueError(
                f"top_k {self.top_k} is more than num_experts {self.num_experts}; expected from 1 "
                f"to {self.num_experts}"
            )
        if self.routing == "top_k":
            if self.normalize_gates and self.top_k == 1:
                raise ValueError(
                    "normalize_gates of top_k 1 makes every weight 1, from which the router learns "
                    "nothing; expected top_k of 2 or more, or normalize_gates false"
                )
            return self
        if self.capacity_factor is None:
            raise ValueError(
                "routing 'expert_choice' needs a capacity_factor, such as 1.0: experts take as "
                "many tokens as they have room for"
            )
        if self.load_balance_weight:
            raise ValueError(
                f"load_balance_weight {self.load_balance_weight} with routing 'expert_choice', "
                "which balances by itself; expected 0"
            )
        return self

    def check_input(self, *, tokens: int, causal: bool) -> None:
        """Checks that a network's tokens can be routed so; for the validators of its config.

        Args:
            tokens: Of an example; 1 if a network has one vector an example.
            causal: Whether a token may depend on earlier ones alone.

        Raises:
            ValueError: Which keys are wrong, and what would fit.
        """
        if causal and self.routing == "expert_choice":
            raise ValueError(
                "routing 'expert_choice' of a causal network: experts would look at later tokens; "
                "expected 'top_k'"
            )
        if tokens == 1 and self.capacity_factor is not None:
            raise ValueError(
                f"capacity_factor {self.capacity_factor} of examples of one token, which always "
                "has room; expected null and routing 'top_k'"
            )

    def has_experts(self, block: int) -> bool:
        """Says whether the block of this number, from 0, has experts."""
        return (block + 1) % self.every == 0

    def capacities(self, tokens: int) -> np.ndarray:
        """Returns the room of an expert by the number of an example's tokens, from 0 to `tokens`.

        int32 `[tokens + 1]`; one table for both frameworks, whose rounding cannot differ.
        """
        counts = range(tokens + 1)
        if self.capacity_factor is None:
            return np.array(counts, np.int32)
        share = self.capacity_factor * self.top_k / self.num_experts
        # 1.1 * 10 is not exact: it has room for 11, and not for 12.
        return np.array([min(n, math.ceil(round(share * n, 6))) for n in counts], np.int32)
