"""Associative recall: pairs of tokens, and much later the first of some, to be answered.

To answer takes looking back at what followed the same token before, however long ago, which is what
causal attention does in two layers and what a model of short memory cannot do. In

    k3 v9 .  .  k1 v4 .  .  .  .  k1 v4 k3 v9

`.` is a filler, and the model is asked for `v4` where it reads the second `k1`, and for `v9` where
it reads the second `k3`; nowhere else. Which value goes with a key is drawn anew for each example.

Reference: S. Arora et al., "Zoology: Measuring and Improving Recall in Efficient Language Models",
https://arxiv.org/abs/2312.04927.
"""

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from data.dataset import PADDING, Dataset, ExampleSpec, Source, Split
from data.sources.drawn import DrawnOptions

FILLER = 0


class RecallOptions(DrawnOptions):
    """How much there is to remember, and for how long."""

    vocab_size: int = Field(
        default=64,
        ge=4,
        le=65536,
        description="different tokens: one filler, half of the others keys, the rest values",
    )
    num_pairs: int = Field(default=8, ge=1, le=32768, description="pairs to remember")
    num_queries: int = Field(
        default=8,
        ge=1,
        le=32768,
        description="asked at the end, each for any of the pairs",
    )
    seq_len: int = Field(default=128, ge=4, le=65536, description="tokens in the longest example")
    min_seq_len: int | None = Field(
        default=None,
        ge=4,
        le=65536,
        description="tokens in the shortest example, which is padded; null: all have seq_len",
    )

    @property
    def num_keys(self) -> int:
        """Tokens 1 to `num_keys` are keys, and those above are values."""
        return (self.vocab_size - 1) // 2

    @property
    def shortest(self) -> int:
        """Number of tokens of the shortest example."""
        return self.seq_len if self.min_seq_len is None else self.min_seq_len

    @model_validator(mode="after")
    def _check_fits(self) -> Self:
        if self.num_pairs > self.num_keys:
            raise ValueError(
                f"num_pairs {self.num_pairs} is more than the {self.num_keys} keys of vocab_size "
                f"{self.vocab_size}; raise vocab_size to {2 * self.num_pairs + 1} or more"
            )
        if self.shortest > self.seq_len:
            raise ValueError(f"min_seq_len {self.shortest} is more than seq_len {self.seq_len}")
        if 2 * (self.num_pairs + self.num_queries) > self.shortest:
            key = "seq_len" if self.min_seq_len is None else "min_seq_len"
            raise ValueError(
                f"{key} {self.shortest} has no room for num_pairs {self.num_pairs} and num_queries "
                f"{self.num_queries}; raise it to {2 * (self.num_pairs + self.num_queries)} or more"
            )
        self.check_size(max(self.seq_len, self.num_keys), "seq_len")
        return self


def _load(options: RecallOptions) -> Dataset:
    return Dataset(
        train=_draw(options, options.num_train, options.train_rng),
        test=_draw(options, options.num_test, options.test_rng),
    )


def _draw(options: RecallOptions, count: int, rng: np.random.Generator) -> Split:
    """Draws examples: `[count, seq_len]` int32 each, padded at the end."""
    pairs, queries = options.num_pairs, options.num_queries
    example = np.arange(count)[:, np.newaxis]
    keys = 1 + _choose(options.num_keys, pairs, count, rng)
    values = rng.integers(1 + options.num_keys, options.vocab_size, (count, pairs))
    lengths = rng.integers(options.shortest, options.seq_len + 1, count)
    # Pairs and queries take two places each; queries the last ones, pairs any before them.
    places = lengths[:, np.newaxis] // 2
    free = np.arange(options.seq_len // 2) < places - queries
    at_pair = 2 * np.where(free, rng.random(free.shape), 2.0).argsort(axis=1)[:, :pairs]
    at_query = 2 * (places - queries + np.arange(queries))
    # Not in rounds: what was asked in one already could be ruled out, without any recall.
    asked = rng.integers(0, pairs, (count, queries))

    inputs = np.full((count, options.seq_len), FILLER, np.int32)
    targets = np.full((count, options.seq_len), PADDING, np.int32)
    inputs[example, at_pair], inputs[example, at_pair + 1] = keys, values
    inputs[example, at_query] = keys[example, asked]
    inputs[example, at_query + 1] = targets[example, at_query] = values[example, asked]
    inputs[np.arange(options.seq_len) >= lengths[:, np.newaxis]] = PADDING
    return Split(inputs, targets)


def _choose(total: int, number: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns `[count, number]`: in each row so many different numbers below `total`."""
    return rng.random((count, total)).argsort(axis=1)[:, :number]


def _describe(options: RecallOptions) -> ExampleSpec:
    shape = (options.seq_len,)
    return ExampleSpec(
        "sequences",
        shape,
        "int32",
        options.vocab_size,
        target_shape=shape,
        is_padded=options.min_seq_len is not None,
    )


RECALL = Source("recall", RecallOptions, _describe, _load)
