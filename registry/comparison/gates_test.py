"""A gate says in text what it says, and nothing else is taken for one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.comparison.gates import Gate, GateError, parse_gate
from registry.comparison.gates_file import read_gates
from registry.comparison.speeds import SPEED_QUANTITIES, WHOLE_QUANTITIES

_EXAMPLES = {
    "accuracy >= 0.98": Gate("accuracy", None, ">=", offset=0.98),
    "loss_nats<.5": Gate("loss_nats", None, "<", offset=0.5),
    "r2 > -1e-3": Gate("r2", None, ">", offset=-0.001),
    "accuracy >= champion": Gate("accuracy", None, ">=", factor=1.0),
    "accuracy >= champion - 0.005": Gate("accuracy", None, ">=", factor=1.0, offset=-0.005),
    "mse <= champion+1": Gate("mse", None, "<=", factor=1.0, offset=1.0),
    "latency_p99_ms <= 1.2x champion": Gate("latency_p99_ms", None, "<=", factor=1.2),
    "latency_p99_ms[batch=8] <= 1.2 x champion": Gate("latency_p99_ms", 8, "<=", factor=1.2),
    "examples_per_s [ batch = 32 ] >= 100": Gate("examples_per_s", 32, ">=", offset=100.0),
    "accuracy not worse than champion": Gate("accuracy"),
    "loss_nats not  worse than champion by 0.01": Gate("loss_nats", offset=0.01, has_margin=True),
    " load_s <= 2 ": Gate("load_s", None, "<=", offset=2.0),
}


@pytest.mark.parametrize(("text", "gate"), _EXAMPLES.items(), ids=_EXAMPLES)
def test_is_read(text: str, gate: Gate) -> None:
    assert parse_gate(text) == gate


_NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True).filter(
    lambda name: name not in (*SPEED_QUANTITIES, *WHOLE_QUANTITIES, "champion")
)
_NUMBERS = st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0)
_POSITIVE = st.floats(0, exclude_min=True, allow_infinity=False)
_RELATIONS = st.sampled_from([">=", "<=", ">", "<"])
_BOUNDS = st.one_of(
    st.fixed_dictionaries({"offset": _NUMBERS}),
    st.fixed_dictionaries({"factor": _POSITIVE}),
    st.fixed_dictionaries({"factor": st.just(1.0), "offset": _NUMBERS}),
)
_QUANTITIES = st.one_of(
    st.tuples(_NAMES, st.none()),
    st.tuples(st.sampled_from(SPEED_QUANTITIES), st.none() | st.integers(1, 10**8)),
    st.tuples(st.sampled_from(WHOLE_QUANTITIES), st.none()),
)
_GATES = st.one_of(
    st.builds(
        lambda quantity, relation, bound: Gate(*quantity, relation, **bound),
        _QUANTITIES,
        _RELATIONS,
        _BOUNDS,
    ),
    st.builds(Gate, _NAMES),
    st.builds(lambda name, margin: Gate(name, offset=margin, has_margin=True), _NAMES, _POSITIVE),
)


@given(_GATES)
def test_its_text_is_read_back_as_the_same(gate: Gate) -> None:
    assert parse_gate(str(gate)) == gate


@given(_GATES, st.data())
def test_what_is_left_out_is_not_made_up(gate: Gate, data: st.DataObject) -> None:
    """Of a gate with a character less, it is refused or is what it says then."""
    text = str(gate)
    position = data.draw(st.integers(0, len(text) - 1))
    shorter = text[:position] + text[position + 1 :]
    try:
        found = parse_gate(shorter)
    except GateError:
        return
    assert parse_gate(str(found)) == found


@given(st.text(max_size=250))
def test_any_text_is_read_or_refused_with_what_is_accepted(text: str) -> None:
    said = "expected"
    try:
        parse_gate(text)
    except GateError as error:
        said = str(error)
    assert "expected" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy", "is no gate; expected such as 'accuracy >= 0.98'"),
        ("accuracy >= ", "is no gate"),
        ("accuracy => 0.98", "is no gate"),
        ("accuracy == 0.98", "is no gate"),
        ("accuracy >= 98%", "is no gate"),
        ("accuracy >= nan", "is no gate"),
        ("accuracy >= inf", "is no gate"),
        ("accuracy >= 1e999", "beyond what a number can be"),
        ("accuracy >= 0.98 champion", "is no gate"),
        ("accuracy >= 0.9 and loss_nats < 1", "is no gate"),
        ("accuracy >= champion * 2", "is no gate"),
        ("accuracy >= champion - -0.1", "is no gate"),
        ("0.98 <= accuracy", "is no gate"),
        ("champion <= 1", "the name of a quantity comes first"),
        ("mse <= 0x champion", "above 0"),
        ("mse <= -1x champion", "above 0"),
        ("accuracy[batch=8] >= 0.9", r"\[batch=8\] is of latency_mean_ms"),
        ("latency_p99_ms[batch=0] <= 1", "batch of at least 1"),
        ("latency_p99_ms not worse than champion", "write such as 'latency_p99_ms <= 1.1x"),
        ("examples_per_s not worse than champion", "write such as 'examples_per_s >= 0.9x"),
        ("accuracy not worse than 0.98", "is no gate"),
        ("accuracy >= \u0660", "is no gate"),
        ("x" * 201, "a gate of 201 characters"),
    ],
)
def test_is_refused(text: str, message: str) -> None:
    with pytest.raises(GateError, match=message):
        parse_gate(text)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text("# why\ngates:\n- accuracy >= 0.98  # good\n- 'mse <= 1.5x champion'\n")
    assert list(map(str, read_gates(path))) == ["accuracy >= 0.98", "mse <= 1.5x champion"]


def test_the_example_is_read() -> None:
    paths = sorted(Path("config/gates").iterdir())
    assert paths
    for path in paths:
        assert read_gates(path)


_DEEP = "[" * 5000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no gates; expected 'gates:' and a list"),
        ("- accuracy >= 0.98", "has no gates"),
        ("gates:", "line 1: no list of gates"),
        ("gates: accuracy >= 0.98", "line 1: no list of gates"),
        ("gates: []", "line 1: no list of gates"),
        ("gate:\n- accuracy >= 0.98", "line 1: unknown key 'gate'"),
        ("gates:\n- a > 1\ngates:\n- b > 1", "line 3: 'gates' comes a second time"),
        ("gates:\n- a > 1\nmore: 1", "line 3: unknown key 'more'"),
        ("gates:\n- a > 1\n- b: 1", "line 3: a gate is one line of text"),
        ("gates:\n- a > 1\n\n- b", "line 4: 'b' is no gate"),
        ("gates:\n- 0.98", "line 2: '0.98' is no gate"),
        ("gates: [", "is not YAML"),
        ("gates:\n- !!python/object/apply:os.system ['true']", "line 2: a gate is one line"),
        (f"gates: {_DEEP}", "not YAML|brackets in brackets"),
        ("gates:\n" + "- a > 1\n" * 9000, "at most 65,536 bytes"),
        (b"gates: \xff", "expected UTF-8"),
        ("gates:\n- a > 1\n---\ngates:\n- b > 1", "is not YAML"),
        ("gates:\n- a > \0", "is not YAML"),
    ],
)
def test_a_file_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "gates.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(GateError, match=message) as refused:
        read_gates(path)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="cannot read gates from .*: No such file"):
        read_gates(tmp_path / "gates.yaml")
