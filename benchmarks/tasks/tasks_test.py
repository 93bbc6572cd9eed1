"""A task trains from its seed, and the convolutional network learns the digits."""

import torch
import torch.nn.functional as F

from benchmarks.tasks.tasks import make_digits_cnn

# Guessing is right in a tenth.
_STEPS, _LEAST_ACCURACY = 150, 0.9


def test_learns_the_digits_from_its_seed() -> None:
    task = make_digits_cnn(0, _STEPS)
    model = task.model()
    for first, second in zip(model.parameters(), task.model().parameters(), strict=True):
        assert torch.equal(first, second)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(_STEPS):
        images, labels = task.batch(step)
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    images, labels = task.held_out
    accuracy = (model(images).argmax(dim=-1) == labels).double().mean()
    assert accuracy > _LEAST_ACCURACY
