"""Cross-entropy at every position in PyTorch; `flax_objective.py` is its twin.

Shape suffixes:
  B = batch, T = tokens (seq_len), V = vocab_size
"""

import math

import torch

from optim.torch.curvature import sample_labels
from train.tasks.task import Objective


def objective(*, label_smoothing: float, z_loss_weight: float) -> Objective:
    """Returns the loss of logits `[batch, seq_len, vocab_size]` for tokens `[batch, seq_len]`.

    With it come `accuracy` and `bits_per_token`, of the plain cross-entropy. All are means over the
    positions whose token is not negative.

    Reference: the z-loss is that of Chowdhery et al., "PaLM", https://arxiv.org/abs/2204.02311.
    """

    def loss(
        logits_BTV: torch.Tensor, tokens_BT: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        log_sum_BT = logits_BTV.logsumexp(dim=-1)
        nats_BT = log_sum_BT - _at(logits_BTV, tokens_BT)
        loss_BT = nats_BT
        if label_smoothing:
            even_BT = log_sum_BT - logits_BTV.mean(dim=-1)
            loss_BT = (1 - label_smoothing) * nats_BT + label_smoothing * even_BT
        if z_loss_weight:
            loss_BT = loss_BT + z_loss_weight * log_sum_BT**2
        correct_BT = (logits_BTV.argmax(dim=-1) == tokens_BT).float()
        metrics = {
            "accuracy": _mean(correct_BT, tokens_BT),
            "bits_per_token": _mean(nats_BT, tokens_BT) / math.log(2),
        }
        return _mean(loss_BT, tokens_BT), metrics

    def sampled_loss(
        logits_BTV: torch.Tensor, tokens_BT: torch.Tensor, noise_BTV: torch.Tensor
    ) -> torch.Tensor:
        sampled_BT = sample_labels(logits_BTV, noise_BTV)
        nats_BT = logits_BTV.logsumexp(dim=-1) - _at(logits_BTV, sampled_BT)
        return _mean(nats_BT, tokens_BT)

    return Objective(loss, sampled_loss, _weight)


def _weight(tokens_BT: torch.Tensor) -> torch.Tensor:
    return (tokens_BT >= 0).sum().float()


def _at(logits_BTV: torch.Tensor, tokens_BT: torch.Tensor) -> torch.Tensor:
    places_BT1 = tokens_BT.clamp(min=0)[..., None].long()
    return logits_BTV.gather(dim=-1, index=places_BT1)[..., 0]


def _mean(values_BT: torch.Tensor, tokens_BT: torch.Tensor) -> torch.Tensor:
    """Returns the mean over the tokens that count; 0 if none does."""
    total = torch.where(tokens_BT >= 0, values_BT, 0.0).sum()
    return total / _weight(tokens_BT).clamp(min=1.0)
