"""The benchmark of optimizers: its sides do the same, and its command line."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness.record import Record
from benchmarks.harness.runner import run
from benchmarks.harness.timing import run_once
from benchmarks.optim import measure
from benchmarks.optim.cases import JAX, OPTAX, OURS_8_BITS, TORCH, Model, Preset
from benchmarks.optim.findings import findings, groups
from benchmarks.optim.sides import sides
from benchmarks.optim.suite import SUITE
from optim.registry import ALGORITHMS


class _Tiny(Model):
    """A matrix with state in 8 bits if asked, and a vector without."""

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [(80, 64), (64,)]


_TINY = _Tiny("tiny", 64, 0, 80)


@pytest.mark.parametrize("framework", [TORCH, JAX])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_side_makes_the_same_first_step(framework: str, algorithm: str) -> None:
    all_weights = {}
    for name, side in sides(framework, algorithm, _TINY):
        result, _ = run_once(side.step)
        all_weights[name] = [x.copy() for x in side.step.arrays(result)]
        assert side.state_bytes() > 0
    expected, *others = all_weights
    for name in others:
        if (algorithm, name) == ("adan", OPTAX):
            continue  # its first step has another denominator
        # The first step of most is the sign of the gradient.
        for ours, theirs in zip(all_weights[expected], all_weights[name], strict=True):
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=5e-6)


def test_writes_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = (Model("small", 128, 1, 256), Model("medium", 256, 1, 1024))
    monkeypatch.setattr(measure, "QUICK", Preset(models, budget_s=0.1))
    arguments = ["--quick", "--algorithms", "lion", "--frameworks", "jax", "--out", str(tmp_path)]
    assert run(SUITE, [*arguments, "--grace-s", "0.1"]) == 0
    (page,) = tmp_path.glob("*.md")
    (content,) = tmp_path.glob("*.json")
    record = Record.model_validate_json(content.read_text())
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert len(groups(record.rows)) == 2
    assert record.findings == tuple(findings(record))
    of_bytes = record.findings[-1]
    assert of_bytes.reached and of_bytes.value is not None and of_bytes.value < 0.3
    printed = capsys.readouterr().out
    assert "lion in jax, 0.2 million weights" in printed and OURS_8_BITS in printed
    assert "lion in jax, 1.1 million weights" in page.read_text()
