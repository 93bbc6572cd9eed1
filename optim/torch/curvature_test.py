"""The estimates are right on average, where the Hessian's diagonal is known."""

import torch
import torch.nn.functional as F

from optim.torch.curvature import gauss_newton_bartlett, hutchinson, sample_labels


def test_gauss_newton_bartlett_of_softmax_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(16, 3, generator=generator)
    weight = torch.randn(4, 3, generator=generator, requires_grad=True)
    logits = inputs @ weight.T
    p = logits.detach().softmax(-1)
    exact = (p * (1 - p)).T @ inputs.square() / len(inputs)
    estimate = gauss_newton_bartlett(len(inputs))
    total = torch.zeros_like(weight)
    torch.manual_seed(1)
    for _ in range(4000):
        loss = F.cross_entropy(logits, sample_labels(logits))
        (grad,) = torch.autograd.grad(loss, weight, retain_graph=True)
        total += estimate(grad)
    torch.testing.assert_close(total / 4000, exact, rtol=0.1, atol=0.0)


def test_hutchinson_of_a_quadratic() -> None:
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    hessian = half @ half.T + 4 * torch.eye(6, dtype=torch.float64)
    weight = torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
    unused = torch.ones(2, dtype=torch.float64, requires_grad=True)
    total = torch.zeros_like(weight)
    for _ in range(4000):
        loss = 0.5 * weight @ hessian @ weight + unused.sum()
        hutchinson(loss, [weight, unused], generator)
        assert weight.grad is not None
        assert torch.equal(unused.grad, torch.zeros_like(unused))
        total += weight.grad
    torch.testing.assert_close(total / 4000, hessian.diagonal(), rtol=0.1, atol=0.0)
