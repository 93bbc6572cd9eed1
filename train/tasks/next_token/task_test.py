"""The loss is PyTorch's own cross-entropy, in both frameworks; metrics are scikit-learn's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, log_loss

from data.dataset import ExampleSpec, Split
from train.evaluation import evaluate
from train.tasks.next_token.task import NEXT_TOKEN, NextTokenLoss

_BATCH, _SEQ_LEN, _VOCAB = 5, 7, 11

# Float32 sums of a few dozen terms of about 1.
TOLERANCE = 1e-6


def _batch(seed: int = 0, *, batch: int = _BATCH) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and tokens of which a third are not to be predicted."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, _VOCAB, (batch, _SEQ_LEN)).astype(np.int32)
    logits = rng.normal(0, 2, (batch, _SEQ_LEN, _VOCAB)).astype(np.float32)
    return logits, np.where(rng.random(tokens.shape) < 1 / 3, -1, tokens).astype(np.int32)


def _of_torch(loss: NextTokenLoss, logits: np.ndarray, tokens: np.ndarray) -> Any:
    given = torch.tensor(logits, requires_grad=True)
    value, metrics = NEXT_TOKEN.torch(loss).loss(given, torch.tensor(tokens))
    value.backward()
    return value.item(), {k: v.item() for k, v in metrics.items()}, given.grad


def _of_flax(loss: NextTokenLoss, logits: np.ndarray, tokens: np.ndarray) -> Any:
    objective = NEXT_TOKEN.flax(loss)
    (value, metrics), grad = jax.value_and_grad(objective.loss, has_aux=True)(
        jnp.asarray(logits), jnp.asarray(tokens)
    )
    return float(value), {k: float(v) for k, v in metrics.items()}, grad


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("z_loss", [0.0, 0.3])
def test_is_the_cross_entropy_of_what_counts(smoothing: float, z_loss: float) -> None:
    logits, tokens = _batch()
    theirs = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    flat = theirs.flatten(0, 1)
    expected = F.cross_entropy(
        flat, torch.tensor(tokens).flatten().long(), ignore_index=-1, label_smoothing=smoothing
    )
    expected = expected + z_loss * (flat.logsumexp(1)[tokens.ravel() >= 0] ** 2).mean()
    expected.backward()
    assert theirs.grad is not None
    loss = NextTokenLoss(label_smoothing=smoothing, z_loss_weight=z_loss)
    for value, metrics, grad in (_of_torch(loss, logits, tokens), _of_flax(loss, logits, tokens)):
        assert value == pytest.approx(expected.item(), rel=TOLERANCE)
        np.testing.assert_allclose(grad, theirs.grad, rtol=0, atol=TOLERANCE)
        counts = tokens >= 0
        assert metrics["accuracy"] == pytest.approx((logits.argmax(-1) == tokens)[counts].mean())
        plain = F.cross_entropy(flat, torch.tensor(tokens).flatten().long(), ignore_index=-1)
        assert metrics["bits_per_token"] == pytest.approx(plain.item() / np.log(2), rel=TOLERANCE)


@pytest.mark.parametrize("framework", ["flax", "torch"])
def test_a_batch_of_nothing_but_padding_weighs_nothing(framework: str) -> None:
    logits, tokens = _batch()
    run = {"flax": _of_flax, "torch": _of_torch}[framework]
    value, metrics, grad = run(NextTokenLoss(), logits, np.full_like(tokens, -1))
    assert value == 0.0
    assert set(metrics.values()) == {0.0}
    assert not np.asarray(grad).any()


def test_tokens_are_weighed() -> None:
    _, tokens = _batch()
    flax, torch_ = (f(NextTokenLoss()).weight for f in (NEXT_TOKEN.flax, NEXT_TOKEN.torch))
    assert flax is not None and torch_ is not None
    assert float(flax(jnp.asarray(tokens))) == float(torch_(torch.tensor(tokens)))
    assert float(flax(jnp.asarray(tokens))) == (tokens >= 0).sum()


def test_targets_are_drawn_alike_at_the_positions_that_count() -> None:
    logits, tokens = _batch()
    signature: Any = type("S", (), {"output": type("T", (), {"shape": logits.shape[1:]})})
    noise = NEXT_TOKEN.noise(signature, len(logits), np.random.default_rng(5))
    labels = (logits + noise).argmax(-1)
    log_sum = np.log(np.exp(logits.astype(np.float64)).sum(-1))
    nats = log_sum - np.take_along_axis(logits, labels[..., None], -1)[..., 0]
    flax = NEXT_TOKEN.flax(NextTokenLoss()).sampled_loss(*map(jnp.asarray, (logits, tokens, noise)))
    ours = NEXT_TOKEN.torch(NextTokenLoss()).sampled_loss(
        *map(torch.tensor, (logits, tokens, noise))
    )
    for value in (flax, ours):
        assert float(value) == pytest.approx(nats[tokens >= 0].mean(), rel=TOLERANCE)


_TEXT = ExampleSpec(
    "windows", (_SEQ_LEN,), "int32", _VOCAB, target_shape=(_SEQ_LEN,), bytes_per_token=2.0
)


@pytest.mark.parametrize("size", [1, 256, 700])
def test_held_out_metrics_are_those_of_scikit_learn(size: int) -> None:
    _, tokens = _batch(1, batch=size)
    logits = np.random.default_rng(2).normal(0, 2, (size, _SEQ_LEN, _VOCAB)).astype(np.float32)
    found = evaluate(NEXT_TOKEN, lambda i: logits[i], Split(np.arange(size), tokens), _TEXT)
    counts = tokens >= 0
    wide = logits[counts].astype(np.float64)
    probabilities = np.exp(wide) / np.exp(wide).sum(1, keepdims=True)
    nats = log_loss(tokens[counts], probabilities, labels=range(_VOCAB))
    expected = {
        "accuracy": accuracy_score(tokens[counts], wide.argmax(1)),
        "loss_nats": nats,
        "bits_per_token": nats / np.log(2),
        "bits_per_byte": nats / np.log(2) / 2,
        "perplexity": np.exp(nats),
    }
    assert found.metrics == pytest.approx(expected, rel=1e-9)
    assert (found.num_examples, found.num_counted) == (size, counts.sum())


def test_intervals_are_of_texts_and_not_of_tokens() -> None:
    """Each text that comes twice as often makes a token no more certain: held to a bootstrap."""
    size, rng = 300, np.random.default_rng(3)
    hardness = rng.gamma(2.0, size=(size, 1, 1)).astype(np.float32)
    logits = hardness * rng.normal(size=(size, _SEQ_LEN, _VOCAB)).astype(np.float32)
    tokens = _batch(4, batch=size)[1]
    found = evaluate(NEXT_TOKEN, lambda i: logits[i], Split(np.arange(size), tokens), _TEXT)
    counts = tokens >= 0
    log_sum = np.log(np.exp(logits.astype(np.float64)).sum(-1))
    own = np.take_along_axis(logits, np.maximum(tokens, 0)[..., None], -1)[..., 0]
    losses, weights = np.where(counts, log_sum - own, 0.0).sum(1), counts.sum(1)
    drawn = rng.integers(0, size, (20_000, size))
    means = losses[drawn].sum(1) / weights[drawn].sum(1)
    low, high = found.intervals["loss_nats"]
    assert (high - low) / 2 == pytest.approx(1.96 * means.std(), rel=0.03)
    for name, of_loss in {
        "bits_per_token": lambda loss: loss / np.log(2),
        "bits_per_byte": lambda loss: loss / np.log(2) / 2,
        "perplexity": np.exp,
    }.items():
        assert found.intervals[name] == pytest.approx((of_loss(low), of_loss(high)))


def test_bytes_are_counted_where_tokens_stand_for_them() -> None:
    logits, tokens = _batch()
    drawn = _TEXT._replace(bytes_per_token=None)
    found = evaluate(NEXT_TOKEN, lambda i: logits[i], Split(np.arange(_BATCH), tokens), drawn)
    assert "bits_per_byte" not in found.metrics


def test_a_perplexity_beyond_all_numbers_is_left_out() -> None:
    logits, tokens = _batch()
    split = Split(np.arange(_BATCH), tokens)
    found = evaluate(NEXT_TOKEN, lambda i: 1e4 * logits[i], split, _TEXT)
    assert "perplexity" not in found.metrics
    assert found.metrics["loss_nats"] > 1000


def test_nothing_to_measure_is_said() -> None:
    logits, tokens = _batch()
    split = Split(np.arange(_BATCH), np.full_like(tokens, -1))
    with pytest.raises(ValueError, match="'next_token' has nothing to measure"):
        evaluate(NEXT_TOKEN, lambda i: logits[i], split, _TEXT)


def test_says_which_outputs_fit() -> None:
    assert NEXT_TOKEN.output_shape(_TEXT) == (_SEQ_LEN, _VOCAB)
    with pytest.raises(ValueError, match=r"has targets int32 \[\], but task 'next_token' needs a"):
        NEXT_TOKEN.output_shape(_TEXT._replace(target_shape=()))
