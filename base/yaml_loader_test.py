"""Values are those of YAML 1.2's core schema, and no text takes long or ends in a traceback."""

import math
from typing import Any

import pytest

from base.yaml_loader import MAX_CHARACTERS, MAX_DEPTH, MAX_DIGITS, YamlError, load_yaml

# https://yaml.org/spec/1.2.2/, section 10.3.2, every line of its table.
CORE_SCHEMA = {
    **dict.fromkeys(["null", "Null", "NULL", "~", ""], None),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
    **{"0": 0, "7": 7, "-19": -19, "+12": 12, "010": 10, "-007": -7, "08": 8},
    **{"0o7": 7, "0o14": 12, "0x3A": 58, "0xff": 255},
    **{"0.": 0.0, "-0.0": -0.0, ".5": 0.5, "+12e03": 12000.0, "-2E+05": -200000.0, "1e-3": 1e-3},
    **{"1.5": 1.5, "1.e1": 10.0, "12e03": 12000.0, "1E5": 1e5, "010.5": 10.5, "1e999": math.inf},
    **dict.fromkeys([".inf", ".Inf", ".INF", "+.inf", "+.INF"], math.inf),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], -math.inf),
}

# What YAML 1.1 takes for a boolean, a number, a date, a merge or a value, and near misses.
STRINGS = [
    *("yes", "Yes", "no", "NO", "on", "off", "y", "n", "nULL", "tRUE", "TRue", "None"),
    *("1:30", "190:20:30", "1:30.5", "1_000", "0b1", "0b1010_0111", "0o8", "0O7", "0X1F", "-0x1"),
    *("+0o7", "0x", "0o", "0xg", "1.0.0", "e5", ".e5", ".", "+", "1e", "1e+", "--1", "1,000"),
    *("2026-01-01", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.10 -5", "=", "<<"),
    *(".iNF", "inf", "nan", "NaN", "+.nan", "Infinity", "1e1.5", "١٢"),
]


@pytest.mark.parametrize(("text", "value"), CORE_SCHEMA.items())
def test_core_schema(text: str, value: object) -> None:
    for document in (text, f"[{text}]" if text else "[~]", f"- {text}", f"{{key: {text}}}"):
        loaded = load_yaml(document)
        while isinstance(loaded, (list, dict)):
            [loaded] = loaded.values() if isinstance(loaded, dict) else loaded
        assert loaded == value
        assert type(loaded) is type(value)


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_not_a_number(text: str) -> None:
    assert math.isnan(load_yaml(text))


@pytest.mark.parametrize("text", STRINGS)
def test_what_is_not_in_the_core_schema_is_a_string(text: str) -> None:
    assert load_yaml(f"key: {text}") == {"key": text}


@pytest.mark.parametrize("text", CORE_SCHEMA)
def test_what_is_quoted_is_a_string(text: str) -> None:
    assert load_yaml(f"['{text}', \"{text}\", !!str '{text}', ! '{text}']") == [text] * 4


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("!!int 010", 10),
        ("!!int '3'", 3),
        ("!!float 3", 3.0),
        ("!!bool 'true'", True),
        ("!!null ''", None),
        ("!!str 010", "010"),
        ("! 12", "12"),
        ("!!map {a: !!seq [1]}", {"a": [1]}),
        ("<<: {a: 1}\nb: 2", {"<<": {"a": 1}, "b": 2}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: {x: 1}\nb: {x: 2}", {"a": {"x": 1}, "b": {"x": 2}}),
        ("# nothing", None),
        ("---\na: |\n  two\n  lines\n...\n", {"a": "two\nlines\n"}),
    ],
)
def test_documents(text: str, value: object) -> None:
    assert load_yaml(text) == value


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "b: {a: 1, a: 1}", "- a: 1\n  a: 2", "a: 1\n'a': 2", "<<: 1\n<<: 2"]
)
def test_a_key_given_twice_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(YamlError, match=r"is given twice \(line [12]\)"):
        load_yaml(text)


def _billion_laughs() -> str:
    lines = ["l0: &l0 [lol]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 40)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "9" * 5000, r"^a: an integer of 5,000 digits; expected at most 1,000"),
        ("a: {b: [0x" + "f" * 5000, "not valid YAML"),
        ("a: {b: [0x" + "f" * 5000 + "]}", r"^a\.b\.0: an integer of 5,002 digits"),
        ("[" * 3000, f"nested deeper than {MAX_DEPTH} levels"),
        ("[" * 3000 + "]" * 3000, f"nested deeper than {MAX_DEPTH} levels"),
        ("{a: " * 3000, f"nested deeper than {MAX_DEPTH} levels"),
        ("- " * 3000, f"nested deeper than {MAX_DEPTH} levels"),
        (_billion_laughs(), "more than 10,000 values, where aliases count as what they stand for"),
        ("a: &a [*a]", f"nested deeper than {MAX_DEPTH} levels"),
        ("a: &a {b: *a}", f"nested deeper than {MAX_DEPTH} levels"),
        ("- x\n" * 20_000, "more than 10,000 values"),
        ("#" * (MAX_CHARACTERS + 1), "has 131,073 characters; expected at most 131,072"),
        ("1: a", r"the key 1 is no text; expected a name \(line 1\)"),
        ("true: a", "the key True is no text"),
        ("? [a]\n: b", r"a key is a sequence, no text; expected a name \(line 1\)"),
        ("&a {? *a : 1}", r"a key is a mapping, no text; expected a name \(line 1\)"),
        ("{? &a {? *a : 1} : 1}", "a key is a mapping, no text"),
        ("a: &a [{? *a : 1}]", r"^a\.0: a key is a sequence, no text"),
        (r'"\UFFFFFFFF"', "not valid YAML"),
        (r'a: ["\U00110000"]', "not valid YAML"),
        (f"%YAML {'1' * 5000}.1\n--- a", "not valid YAML"),
        (f"%YAML 1.{'1' * 5000}\n--- a", "not valid YAML"),
        ("~: a", "the key None is no text"),
        ("a: !!python/object/apply:os.getcwd []", "^a: the tag 'tag:yaml.org,2002:python/object"),
        ("a: !!timestamp 2026-01-01", "^a: the tag 'tag:yaml.org,2002:timestamp' is refused"),
        ("a: !!int x", "^a: 'x' is no int"),
        ("a: !!int 1.0", r"^a: '1\.0' is no int"),
        ("a: !!bool yes", "^a: 'yes' is no bool"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("a: [1", "not valid YAML"),
        ("a:\t1\n\tb: 2", "not valid YAML"),
        ("a: \0", "special characters are not allowed"),
        ("a: \udcff", "special characters are not allowed"),
        ("a: *unknown", "found undefined alias"),
        ("a: 'open", "not valid YAML"),
        ("%YAML 3.0\n--- a", "not valid YAML"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(YamlError, match=message):
        load_yaml(text)


def test_limits_hold_what_they_say() -> None:
    assert load_yaml("9" * MAX_DIGITS) == 10**MAX_DIGITS - 1
    value: Any = load_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    depth = 1
    while value:
        [value] = value
        depth += 1
    assert depth == MAX_DEPTH
