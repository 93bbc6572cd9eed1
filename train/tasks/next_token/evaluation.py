"""How well the next token is predicted."""

import math

import numpy as np

from train.tasks.task import Measured


def measure(logits: np.ndarray, tokens: np.ndarray) -> Measured:
    """Measures predictions, at the positions that count.

    Args:
        logits: `[num_examples, seq_len, vocab_size]` float32.
        tokens: `[num_examples, seq_len]` integers, negative where nothing is to be predicted.

    Returns:
        `accuracy`, the share of tokens predicted; `loss_nats`, the mean cross-entropy; and the same
        in bits, `bits_per_token`: where tokens are bytes, bits per byte. Summed in float64.
    """
    counts = tokens >= 0
    logits, tokens = logits[counts].astype(np.float64), tokens[counts]
    highest = logits.max(axis=1, keepdims=True, initial=-np.inf)
    logits -= highest
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(tokens)), tokens]
    correct = logits.argmax(axis=1) == tokens
    nats = float(losses.sum())
    sums = {
        "accuracy": float(correct.sum()),
        "bits_per_token": nats / math.log(2),
        "loss_nats": nats,
    }
    return Measured(sums, len(tokens))
