"""Cross-entropy in PyTorch; `flax_objective.py` is its twin."""

import torch
import torch.nn.functional as F

from optim.torch.curvature import sample_labels
from train.tasks.task import Objective


def objective(*, label_smoothing: float) -> Objective:
    """Returns the loss of logits `[batch, num_classes]`, and `accuracy`, for labels `[batch]`."""

    def loss(
        logits: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        accuracy = (logits.argmax(dim=-1) == labels).float().mean()
        return (
            F.cross_entropy(logits, labels.long(), label_smoothing=label_smoothing),
            {"accuracy": accuracy},
        )

    def sampled_loss(
        logits: torch.Tensor, labels: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        return F.cross_entropy(logits, sample_labels(logits, noise))

    return Objective(loss, sampled_loss)
