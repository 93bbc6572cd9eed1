"""Every answer was told before, and nothing else tells it; lengths are as asked."""

import numpy as np
import pytest
from pydantic import ValidationError

from data.dataset import PADDING, Split
from data.sources.recall import FILLER, RECALL, RecallOptions

SMALL = {"vocab_size": 20, "num_pairs": 4, "num_queries": 3, "num_train": 300, "num_test": 40}


def _options(**changes: int | None) -> RecallOptions:
    return RecallOptions.model_validate({**SMALL, "seq_len": 33, **changes})


def _answers(inputs: np.ndarray) -> dict[int, int]:
    """Answers queries by looking them up, as one would by hand: position to answer."""
    told: dict[int, int] = {}
    answers = {}
    for place in range(0, len(inputs) - 1, 2):
        key, value = inputs[place], inputs[place + 1]
        if key in told:
            answers[place] = told[key]
        elif key not in (FILLER, PADDING):
            told[key] = value
    return answers


def _check(split: Split, options: RecallOptions) -> None:
    for inputs, targets in zip(split.inputs, split.targets, strict=True):
        assert {int(place): int(targets[place]) for place in np.flatnonzero(targets >= 0)} == (
            _answers(inputs)
        )
        assert (targets >= 0).sum() == options.num_queries
        assert set(inputs) <= {PADDING, *range(options.vocab_size)}
        # Nothing is asked of a model that has been told the answer by then.
        for place in np.flatnonzero(targets >= 0):
            assert inputs[place + 1] == targets[place]


@pytest.mark.parametrize("shortest", [None, 14])
def test_looking_back_answers_everything(shortest: int | None) -> None:
    options = _options(min_seq_len=shortest)
    data = RECALL.load(options)
    assert (len(data.train), len(data.test)) == (300, 40)
    _check(data.train, options)
    _check(data.test, options)


def test_the_latest_tokens_do_not_tell() -> None:
    """The value that goes with a key most often is right no more often than any other."""
    options = _options(num_train=4000, seq_len=128)
    train = RECALL.load(options).train
    asked = train.targets >= 0
    keys, values = train.inputs[asked], train.targets[asked]
    best = [np.bincount(values[keys == key]).max() for key in range(1, options.num_keys + 1)]
    num_values = options.vocab_size - 1 - options.num_keys
    assert sum(best) / len(keys) < 1.5 / num_values
    # What was told lies far back, as far as the sequence reaches.
    row, place = np.nonzero(asked)
    told = [np.flatnonzero(train.inputs[i] == key)[0] for i, key in zip(row, keys, strict=True)]
    assert np.mean(place - told) > 128 / 3


def test_what_was_asked_already_rules_nothing_out() -> None:
    """Each query is for any of the pairs, whatever was asked before it."""
    train = RECALL.load(_options(num_queries=8, num_train=4000)).train
    keys = np.array(
        [inputs[row >= 0] for inputs, row in zip(train.inputs, train.targets, strict=True)]
    )
    assert keys.shape == (4000, 8)
    for earlier in range(7):
        assert abs((keys[:, 7] == keys[:, earlier]).mean() - 1 / 4) < 0.03


def test_lengths_are_spread_and_padded_at_the_end() -> None:
    data = RECALL.load(_options(min_seq_len=14))
    is_padding = data.train.inputs == PADDING
    lengths = (~is_padding).sum(axis=1)
    assert set(lengths) == set(range(14, 34))
    np.testing.assert_array_equal(is_padding, np.arange(33) >= lengths[:, np.newaxis])
    assert (data.train.targets[is_padding] == PADDING).all()


def test_a_seed_is_a_task_and_the_splits_differ() -> None:
    first, again, other = (RECALL.load(_options(seed=seed)).digest for seed in (3, 3, 4))
    assert first == again != other
    data = RECALL.load(_options(num_train=40))
    assert not np.array_equal(data.train.inputs, data.test.inputs)


def test_is_described_as_it_is() -> None:
    for shortest in (None, 14):
        options = _options(min_seq_len=shortest)
        spec, train = RECALL.describe(options), RECALL.load(options).train
        assert (spec.input_shape, spec.target_shape) == ((33,), (33,))
        assert (spec.input_dtype, spec.target_dtype) == (train.inputs.dtype, train.targets.dtype)
        assert spec.num_classes == options.vocab_size > train.inputs.max()
        assert spec.is_padded == (train.inputs < 0).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_pairs": 10},
            "num_pairs 10 is more than the 9 keys of vocab_size 20; raise vocab_si",
        ),
        ({"min_seq_len": 34}, "min_seq_len 34 is more than seq_len 33"),
        (
            {"seq_len": 13},
            "seq_len 13 has no room for num_pairs 4 and num_queries 3; raise it to 14",
        ),
        (
            {"min_seq_len": 12},
            "min_seq_len 12 has no room for num_pairs 4 and num_queries 3; raise",
        ),
        ({"num_train": 2**24, "seq_len": 65536}, "more than 134,217,728; lower them or seq_len"),
    ],
)
def test_refuses(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        _options(**changes)
    assert message in str(error.value)
