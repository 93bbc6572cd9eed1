"""Overrides change what they name, and nothing else."""

import pytest

from train.config.overrides import apply_overrides

CONTENT = {"run": {"seed": 0, "num_steps": 10}, "data": {"augment": None}}


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        (["run.seed=7"], {"run": {"seed": 7, "num_steps": 10}}),
        (["run.seed=1", "run.seed=2"], {"run": {"seed": 2, "num_steps": 10}}),
        (["zero.stage=2"], {"zero": {"stage": 2}}),
        (["data.augment.max_scale=1e-1"], {"data": {"augment": {"max_scale": 0.1}}}),
        (["data.augment="], {"data": {"augment": None}}),
        (["run={seed: 1}", "run.num_steps=5"], {"run": {"seed": 1, "num_steps": 5}}),
        (["run.num_steps=010"], {"run": {"seed": 0, "num_steps": 10}}),
        (["run.num_steps=1:30"], {"run": {"seed": 0, "num_steps": "1:30"}}),
        (["zero.stage=true"], {"zero": {"stage": True}}),
        (["a=yes", "b=2026-01-01", "c=0o10"], {"a": "yes", "b": "2026-01-01", "c": 8}),
        (["a.b=true", "a.c=x=y", "a.d='1'"], {"a": {"b": True, "c": "x=y", "d": "1"}}),
        ([" run.seed = 3 "], {"run": {"seed": 3, "num_steps": 10}}),
    ],
)
def test_replaces_and_adds(overrides: list[str], changes: dict[str, object]) -> None:
    assert apply_overrides(CONTENT, overrides) == CONTENT | changes
    assert CONTENT == {"run": {"seed": 0, "num_steps": 10}, "data": {"augment": None}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.seed", "expected key.path=value, such as --set run.num_steps=100"),
        ("=1", "expected key.path=value"),
        ("", "expected key.path=value"),
        ("run..seed=1", "expected key.path=value"),
        (".seed=1", "expected key.path=value"),
        ("run.seed=[1", "not valid YAML"),
        ("run.seed=" + "9" * 5000, "an integer of 5,000 digits; expected at most 1,000"),
        ("run.seed=" + "[" * 3000, "nested deeper than 32 levels"),
        ("run.seed=" + "x" * 10**6, "has 1,000,000 characters; expected at most 131,072"),
        (".".join("k" * 3000) + "=1", "3,000 keys deep; expected at most 32"),
        ("run=&a [*a]", "nested deeper than 32 levels"),
        ("run={seed: 1, seed: 2}", "key 'seed' is given twice"),
        ("run.seed.low=1", "seed is 0, which holds no keys"),
    ],
)
def test_refuses(override: str, message: str) -> None:
    with pytest.raises(ValueError, match="^--set ") as caught:
        apply_overrides(CONTENT, [override])
    assert str(caught.value).startswith(f"--set {override[:200]}")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600
