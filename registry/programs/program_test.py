"""Programs run with an artifact's weights, are held to its signature and probe, and fail clearly.

The oracle is NumPy: the programs are of one linear layer.
"""

import contextlib
import functools
from pathlib import Path

import numpy as np
import pytest

from registry.errors import ArtifactError
from registry.programs import example
from registry.programs.errors import ProgramError
from registry.programs.formats import FORMATS, PROBE_PATH
from registry.programs.probe import check_probe, difference, read_probe
from registry.programs.program import bind, load_program, program_names


@functools.cache
def _content(name: str) -> bytes:
    return {"stablehlo": example.stablehlo, "torch_export": example.torch_export}[name]()


@pytest.fixture(params=list(FORMATS))
def name(request: pytest.FixtureRequest) -> str:
    """Each format in turn."""
    return str(request.param)


def test_a_program_is_the_layer_at_any_batch_size(name: str, tmp_path: Path) -> None:
    run = load_program(example.loaded(tmp_path, {name: _content(name)}), name)
    for size in (1, 2, 5):
        features = np.random.default_rng(size).normal(size=(size, 4)).astype(np.float32)
        outputs = run({"features": features})
        assert outputs.keys() == {"logits"}
        np.testing.assert_allclose(outputs["logits"], example.expected(features), atol=1e-6)


def test_it_agrees_with_the_probe(name: str, tmp_path: Path) -> None:
    loaded = example.loaded(tmp_path, {name: _content(name)})
    assert check_probe(loaded, name) <= 1e-6
    inputs, outputs = read_probe(loaded)
    np.testing.assert_array_equal(inputs["features"], example.PROBE)
    np.testing.assert_array_equal(outputs["logits"], example.expected(example.PROBE))


def test_another_models_weights_do_not_agree_with_the_probe(name: str, tmp_path: Path) -> None:
    loaded = example.loaded(tmp_path, {name: _content(name)})
    loaded.tensors["bias"] = example.WEIGHTS["bias"] + np.float32(0.01)
    with pytest.raises(ProgramError, match=f"the {name} program predicts otherwise"):
        check_probe(loaded, name)
    assert 0.001 < check_probe(loaded, name, tolerance=0.1) < 0.01


def test_what_is_no_number_agrees_with_nothing() -> None:
    outputs = {"logits": np.array([[np.nan, 0.0, 0.0]], np.float32)}
    with pytest.raises(ProgramError, match="predicts otherwise"):
        difference(lambda _: outputs, "stablehlo", {}, {"logits": np.zeros((1, 3), np.float32)})


def test_programs_are_named(tmp_path: Path) -> None:
    loaded = example.loaded(tmp_path, {"torch_export": _content("torch_export")})
    assert program_names(loaded.artifact) == ["torch_export"]
    with pytest.raises(ProgramError, match="has no stablehlo program; .*has: torch_export"):
        load_program(loaded, "stablehlo")
    with pytest.raises(ProgramError, match="expected one of stablehlo, torch_export, got 'onnx'"):
        load_program(loaded, "onnx")


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({}, "features is missing"),
        ({"image": np.zeros((1, 4), np.float32)}, "'image' is not one of features"),
        ({"features": np.zeros((1, 5), np.float32)}, r"expected shape \[-1, 4\], got \[1, 5\]"),
        ({"features": np.zeros(4, np.float32)}, r"expected shape \[-1, 4\], got \[4\]"),
        ({"features": np.zeros((1, 4))}, "expected an array of float32, got float64"),
        ({"features": [[1, 2, 3, 4]]}, "expected an array of float32, got list"),
        ({"features": np.zeros((0, 4), np.float32)}, "expected at least one example"),
    ],
)
def test_batches_are_held_to_the_signature(inputs: dict[str, np.ndarray], problem: str) -> None:
    content = _content("torch_export")
    run = bind(content, "torch_export", example.WEIGHTS, example.signature())
    with pytest.raises(ProgramError, match=problem):
        run(inputs)


def test_outputs_are_held_to_the_signature(name: str) -> None:
    signature = example.signature()
    signature.outputs[0].shape[1] = 4
    run = bind(_content(name), name, example.WEIGHTS, signature)
    with pytest.raises(ProgramError, match=r"does not have: logits: expected shape \[-1, 4\]"):
        run({"features": example.PROBE})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"bias": None}, "it takes bias"),
        ({"scale": np.zeros(3, np.float32)}, "it does not take scale"),
        ({"bias": np.zeros(4, np.float32)}, r"it takes bias as float32 \[3\], got float32 \[4\]"),
        ({"bias": np.zeros(3)}, r"it takes bias as float32 \[3\], got float64 \[3\]"),
    ],
)
def test_weights_are_those_of_the_program(
    name: str, change: dict[str, np.ndarray | None], problem: str
) -> None:
    weights = {n: x for n, x in (example.WEIGHTS | change).items() if x is not None}
    with pytest.raises(ProgramError, match=f"the program is not of these weights: {problem}"):
        bind(_content(name), name, weights, example.signature())


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9])
def test_half_a_program_is_one_clear_error(name: str, part: float) -> None:
    content = _content(name)
    with pytest.raises(ProgramError, match=f"{name} program") as refused:
        bind(content[: int(len(content) * part)], name, example.WEIGHTS, example.signature())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("part", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_damaged_program_raises_nothing_else(name: str, part: float) -> None:
    """Damage may be where nobody looks, such as between two parts of a file."""
    with contextlib.suppress(ProgramError):
        damaged = _zeroed(_content(name), part)
        run = bind(damaged, name, example.WEIGHTS, example.signature())
        run({"features": example.PROBE})


def _zeroed(content: bytes, part: float) -> bytes:
    start = int(len(content) * part)
    return content[:start] + bytes(16) + content[start + 16 :]


def test_a_file_that_changed_is_not_run(name: str, tmp_path: Path) -> None:
    loaded = example.loaded(tmp_path, {name: _content(name)})
    path = tmp_path / FORMATS[name].path
    path.write_bytes(_content(name)[:-1] + b"\1")
    with pytest.raises(ArtifactError, match="is corrupt: expected"):
        load_program(loaded, name)
    (tmp_path / PROBE_PATH).write_bytes(b"")
    with pytest.raises(ArtifactError, match="is corrupt: expected"):
        read_probe(loaded)


def test_a_library_that_is_not_installed_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise ModuleNotFoundError("No module named 'wanted'")

    monkeypatch.setitem(FORMATS, name, FORMATS[name]._replace(loader=missing))
    with pytest.raises(ProgramError, match=f"a {name} program needs .*No module named 'wanted'"):
        bind(_content(name), name, example.WEIGHTS, example.signature())
