"""Cross-entropy in PyTorch; `flax_objective.py` is its twin."""

import torch
import torch.nn.functional as F

from optim.torch.curvature import sample_labels
from train.tasks.task import Objective


def objective(*, label_smoothing: float) -> Objective:
    """Returns the loss of logits `[batch, num_classes]`, and `accuracy`, for labels.

    Labels are classes `[batch]`, or the share of each class `[batch, num_classes]`, of which the
    largest is the right one.
    """

    def loss(
        logits: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        is_mixed = labels.dim() == 2
        targets = labels if is_mixed else labels.long()
        right = labels.argmax(dim=-1) if is_mixed else labels
        accuracy = (logits.argmax(dim=-1) == right).float().mean()
        return (
            F.cross_entropy(logits, targets, label_smoothing=label_smoothing),
            {"accuracy": accuracy},
        )

    def sampled_loss(
        logits: torch.Tensor, labels: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        return F.cross_entropy(logits, sample_labels(logits, noise))

    return Objective(loss, sampled_loss)
