"""How well the next token is predicted."""

import math

import numpy as np

from data.dataset import ExampleSpec
from train.tasks.estimates import Estimate, clustered_share, moments, ratio, scaled
from train.tasks.task import Outcomes, Summary, Tally


def measure(logits: np.ndarray, tokens: np.ndarray) -> Tally:
    """Measures predictions, at the positions that count, in float64.

    Args:
        logits: `[num_examples, seq_len, vocab_size]` float32.
        tokens: `[num_examples, seq_len]` integers, negative where nothing is to be predicted.

    Returns:
        What `summarize` makes the metrics of.
    """
    values, weights = outcomes(logits, tokens)
    return {
        "losses": moments(values["loss_nats"], weights),
        "correct": moments(values["accuracy"], weights),
        "count": np.array(np.count_nonzero(tokens >= 0)),
    }


def outcomes(logits: np.ndarray, tokens: np.ndarray) -> Outcomes:
    """Returns of each example the loss of its tokens, and how many are right, in float64.

    Args:
        logits: `[num_examples, seq_len, vocab_size]` float32.
        tokens: `[num_examples, seq_len]` integers, negative where nothing is to be predicted.
    """
    counts = tokens >= 0
    logits, targets = logits[counts].astype(np.float64), tokens[counts]
    highest = logits.max(axis=1, keepdims=True, initial=-np.inf)
    logits -= highest
    losses, correct = np.zeros((2, *tokens.shape))
    losses[counts] = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(targets)), targets]
    correct[counts] = logits.argmax(axis=1) == targets
    values = {"accuracy": correct.sum(axis=1), "loss_nats": losses.sum(axis=1)}
    return Outcomes(values, counts.sum(axis=1).astype(np.float64))


def summarize(total: Tally, examples: ExampleSpec) -> Summary | None:
    """Returns `accuracy`, `loss_nats`, `bits_per_token`, `bits_per_byte` and `perplexity`.

    `accuracy` is the share of tokens predicted, `loss_nats` the mean cross-entropy of a token,
    `bits_per_token` the same in bits, and `perplexity` its exponential, left out where that is no
    finite number. `bits_per_byte` is there where the source says how many bytes a token is.
    """
    count = int(total["count"])
    if not count:
        return None
    loss = ratio(total["losses"])
    bits = scaled(loss, 1 / math.log(2))
    accuracy = clustered_share(total["correct"])
    estimates = {"accuracy": accuracy, "loss_nats": loss, "bits_per_token": bits}
    if examples.bytes_per_token is not None:
        estimates["bits_per_byte"] = scaled(bits, 1 / examples.bytes_per_token)
    if (perplexity := _exponential(loss)) is not None:
        estimates["perplexity"] = perplexity
    return Summary(estimates, count)


def _exponential(estimate: Estimate) -> Estimate | None:
    ends = estimate.interval
    try:
        interval = None if ends is None else (math.exp(ends[0]), math.exp(ends[1]))
        return Estimate(math.exp(estimate.value), interval)
    except OverflowError:
        return None
