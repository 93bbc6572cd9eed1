"""Sections, of which configurations are made, and what a user reads about wrong ones."""

import difflib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, PydanticKnownError

# Of whole numbers that nothing else limits: what 64 bits hold.
MAX_INTEGER = 2**63 - 1

# The type of problems that `check_section` has put in words.
_IN_WORDS = "in_words"

_MAX_SHOWN = 200
_MAX_KEY_SHOWN = 60


class Section(BaseModel):
    """Values by name, checked when they are given and the same ever after.

    Unknown names are refused, and so is what only resembles a value of the right type: "8" and 8.0
    for the integer 8, True for 1, and infinity and NaN for a number. An integer is a number.

    Raises:
        pydantic.ValidationError (a ValueError): A name or a value is refused; see `explain`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Kind = TypeVar("Kind", bound=Section)


def _require_integer(value: object) -> object:
    if type(value) is not int:
        raise ValueError(f"expected an integer, got {value!r}")
    return value


# For a Literal of integers, which takes whatever is equal to one of them: True for 1, and 8.0.
STRICT_INTEGER = BeforeValidator(_require_integer)


# For a tuple, which YAML and JSON write as a list.
FROM_LIST = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)


@dataclass(frozen=True)
class OneOf(AfterValidator):
    """Checks that a text is one of `names`; see `one_of`."""

    names: Collection[str] = ()


def one_of(names: Collection[str]) -> OneOf:
    """Checks that a text is one of `names`, such as the keys of a table, as they are by then."""

    def check(name: str) -> str:
        if name not in names:
            *others, last = map(repr, names)
            expected = f"{', '.join(others)} or {last}" if others else last
            raise PydanticKnownError("literal_error", {"expected": expected})
        return name

    return OneOf(check, names)


def refuse_unheeded(
    section: Section, keys: Collection[str] | None = None, *, heeded: str, prefix: str = ""
) -> None:
    """Checks that keys are at their defaults, where nothing would heed them; for validators.

    Args:
        section: What the keys are of.
        keys: Which; all of them, unless given.
        heeded: When they are, such as "with kind attention".
        prefix: Of their names in the message.

    Raises:
        ValueError: One is not.
    """
    for key in type(section).model_fields if keys is None else keys:
        value = getattr(section, key)
        if value != type(section).model_fields[key].default:
            listed = list(value) if isinstance(value, tuple) else value
            given = key if isinstance(value, BaseModel) else f"{key} {shown(listed)}"
            raise ValueError(f"{prefix}{given} has an effect {heeded} alone; leave it out")


def check_section(kind: type[Kind], value: object) -> Kind:
    """Checks a section whose type only what stands beside it tells; for validators to call.

    Args:
        kind: The type, found in a table by a name beside the section.
        value: Its keys and values, or a section of that type.

    Raises:
        pydantic.ValidationError: Of problems that `explain` words as those of other sections.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        problems = [
            InitErrorDetails(
                type=PydanticCustomError(_IN_WORDS, "{words}", {"words": _words(problem, kind)}),
                loc=problem["loc"],
                input=problem["input"],
            )
            for problem in _problems(error)
        ]
        raise ValidationError.from_exception_data(kind.__name__, problems) from None


def explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Describes each problem in one line: the path of the key, what was given, what is accepted.

    Args:
        error: What `model.model_validate` raised.
        model: The model that refused its input, needed to list the keys it would have accepted.

    Returns:
        One line a problem, for example
        `model.config.embed_dm: unknown key, did you mean 'embed_dim'? (accepted: embed_dim, ...)`.
    """
    return [_explain_one(problem, model) for problem in _problems(error)]


def _problems(error: ValidationError) -> Iterator[ErrorDetails]:
    """Yields what is wrong; a list whose values are wrong is not called too short, too."""
    problems = error.errors()
    wrong_lists = {problem["loc"][:-1] for problem in problems}
    for problem in problems:
        if problem["type"] != "too_short" or problem["loc"] not in wrong_lists:
            yield problem


def _explain_one(problem: ErrorDetails, model: type[BaseModel]) -> str:
    path = in_path(problem["loc"])
    words = _words(problem, model)
    return f"{path}: {words}" if path else words


def _words(problem: ErrorDetails, model: type[BaseModel]) -> str:
    """Says what is wrong with a value, and what is accepted."""
    loc, message = problem["loc"], problem["msg"]
    match problem["type"]:
        case "extra_forbidden":
            return _unknown_key(str(loc[-1]), _accepted_keys(model, loc[:-1]))
        case "missing":
            return "missing, but required"
        case "model_type":
            return f"expected a section of keys, got {shown(problem['input'])}"
        case "tuple_type":
            return f"expected a list, got {shown(problem['input'])}"
        case "too_short" | "too_long" as type:
            word, bound = ("least", "min") if type == "too_short" else ("most", "max")
            size, given = problem["ctx"][f"{bound}_length"], list(problem["input"])
            return f"expected a list of at {word} {size}, got {shown(given)}"
        case "value_error":  # our own validators say themselves what was given
            return message.removeprefix("Value error, ")
        case type if type == _IN_WORDS:
            return message
    return f"{_lower_first(message)}, got {shown(problem['input'])}"


def in_path(keys: Sequence[str | int]) -> str:
    """Returns keys within keys, joined by points, each cut to what a message can hold."""
    texts = map(str, keys)
    return ".".join(
        text if len(text) <= _MAX_KEY_SHOWN else f"{text[:_MAX_KEY_SHOWN]}..." for text in texts
    )


def shown(value: object) -> str:
    """Returns `repr(value)`, cut to what a message can hold."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _unknown_key(key: str, accepted: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, accepted, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ""
    return f"unknown key{hint} (accepted: {', '.join(accepted)})"


def _accepted_keys(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Follows `loc` from `model` down to the nested model and returns its field names.

    A key that is no field is an index of a list, or a key of a mapping, of sections.
    """
    for key in loc:
        if key in model.model_fields:
            model = next(_sections_in(model.model_fields[str(key)].annotation))
    return list(model.model_fields)


def _sections_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Yields the models in an annotation such as `Section | None` and `list[Section]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections_in(argument)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
