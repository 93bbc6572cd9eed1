"""Gates: what an artifact has to fulfil to be promoted, each a line of a YAML file.

    gates:
      - accuracy >= 0.98
      - accuracy >= champion - 0.005
      - loss_nats not worse than champion
      - accuracy not worse than champion by 0.01
      - latency_p99_ms[batch=8] <= 1.2x champion

The grammar, in which spaces may be left out where nothing else would run together:

    gate     = quantity relation bound
             | quantity "not worse than champion" [ "by" number ]
    quantity = name [ "[batch=" integer "]" ]
    relation = ">=" | "<=" | ">" | "<"
    bound    = number | number "x champion" | "champion" [ ("+" | "-") number ]

A name is that of a metric, or one of `latency_mean_ms`, `latency_p50_ms`, `latency_p90_ms`,
`latency_p99_ms`, `examples_per_s`, which are of calls of one batch size: the one in brackets, or
the smallest that was measured; or `load_s` or `peak_memory_mb`.

`not worse than champion` is judged on the same examples: it fails if the paired test finds the
metric worse. `by 0.01` asks for more: that the 95% interval of the difference rules out that the
metric is worse by more than 0.01.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

from registry.comparison.speeds import SPEED_QUANTITIES, WHOLE_QUANTITIES
from registry.errors import ArtifactError

Relation = Literal[">=", "<=", ">", "<"]

ACCEPTED = (
    "expected such as 'accuracy >= 0.98', 'accuracy >= champion - 0.005', "
    "'latency_p99_ms[batch=8] <= 1.2x champion' or 'loss_nats not worse than champion by 0.01'"
)

# A line of a person; of more, something else was meant.
MAX_GATE_LENGTH = 200

_NUMBER = r"-?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
_QUANTITY = r"(?P<name>[a-z][a-z0-9_]*)\s*(?:\[\s*batch\s*=\s*(?P<batch>\d{1,9})\s*\])?"
_COMPARED = re.compile(
    rf"{_QUANTITY}\s*(?P<relation>>=|<=|>|<)\s*"
    rf"(?:(?P<number>{_NUMBER})"
    rf"|(?P<factor>{_NUMBER})\s*x\s+champion"
    rf"|champion(?:\s*(?P<sign>[+-])\s*(?P<offset>{_NUMBER.removeprefix('-?')}))?)",
    re.ASCII,
)
_NOT_WORSE = re.compile(
    rf"{_QUANTITY}\s+not\s+worse\s+than\s+champion"
    rf"(?:\s+by\s+(?P<margin>{_NUMBER.removeprefix('-?')}))?",
    re.ASCII,
)


class GateError(ArtifactError):
    """A gate, or a file of gates, that cannot be read; where, and what is accepted."""


@dataclass(frozen=True)
class Gate:
    """One condition.

    Attributes:
        name: Of a metric, or of another quantity.
        batch_size: Of the calls; None: the smallest that was measured, or it is of no call.
        relation: What the quantity is to be to the bound; None: not worse than the champion.
        factor: The bound has so many times what the champion has.
        offset: And so much more; of `not worse`, by how much it may be, and 0 for none.
        has_margin: Of `not worse`: whether a margin was given, if 0.
    """

    name: str
    batch_size: int | None = None
    relation: Relation | None = None
    factor: float = 0.0
    offset: float = 0.0
    has_margin: bool = False

    @property
    def is_relative(self) -> bool:
        """Whether the champion decides what is wanted."""
        return self.relation is None or self.factor != 0

    def __str__(self) -> str:
        """The line of a file that says this."""
        quantity = self.name
        if self.batch_size is not None:
            quantity += f"[batch={self.batch_size}]"
        if self.relation is None:
            by = f" by {_text(self.offset)}" if self.has_margin else ""
            return f"{quantity} not worse than champion{by}"
        if self.factor == 0:
            bound = _text(self.offset)
        elif self.factor != 1:
            bound = f"{_text(self.factor)}x champion"
        elif self.offset:
            bound = f"champion {'-' if self.offset < 0 else '+'} {_text(abs(self.offset))}"
        else:
            bound = "champion"
        return f"{quantity} {self.relation} {bound}"


def parse_gate(text: str) -> Gate:
    """Reads one gate.

    Raises:
        GateError: It is none; the message says what is accepted.
    """
    if len(text) > MAX_GATE_LENGTH:
        raise GateError(f"a gate of {len(text):,} characters; {ACCEPTED}")
    line = text.strip()
    if found := _NOT_WORSE.fullmatch(line):
        name, batch_size = _quantity(found, text)
        if name in (*SPEED_QUANTITIES, *WHOLE_QUANTITIES):
            example = ">= 0.9x" if name == "examples_per_s" else "<= 1.1x"
            raise GateError(
                f"{text!r}: {name} was not measured on examples, by which 'not worse' is judged; "
                f"write such as '{name} {example} champion'"
            )
        margin = found["margin"]
        offset = 0.0 if margin is None else _number(margin, text)
        return Gate(name, batch_size, offset=offset, has_margin=margin is not None)
    found = _COMPARED.fullmatch(line)
    if found is None:
        raise GateError(f"{text!r} is no gate; {ACCEPTED}")
    name, batch_size = _quantity(found, text)
    relation: Relation = found["relation"]  # type: ignore[assignment]
    if found["number"] is not None:
        return Gate(name, batch_size, relation, offset=_number(found["number"], text))
    if found["factor"] is not None:
        factor = _number(found["factor"], text)
        if factor <= 0:
            raise GateError(f"{text!r}: expected a factor of the champion above 0")
        return Gate(name, batch_size, relation, factor=factor)
    offset = 0.0 if found["offset"] is None else _number(found["offset"], text)
    if found["sign"] == "-" and offset:  # 0 has a sign, which would be lost in the text
        offset = -offset
    return Gate(name, batch_size, relation, 1.0, offset)


def _quantity(found: re.Match[str], text: str) -> tuple[str, int | None]:
    name, batch = found["name"], found["batch"]
    if name == "champion":
        raise GateError(f"{text!r}: the name of a quantity comes first; {ACCEPTED}")
    if batch is None:
        return name, None
    if name not in SPEED_QUANTITIES:
        raise GateError(
            f"{text!r}: [batch={batch}] is of {', '.join(SPEED_QUANTITIES)} alone; leave it out"
        )
    if int(batch) < 1:
        raise GateError(f"{text!r}: expected a batch of at least 1")
    return name, int(batch)


def _number(digits: str, text: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise GateError(f"{text!r}: {digits} is beyond what a number can be")
    return number + 0.0  # -0 is 0


def _text(number: float) -> str:
    """The shortest text that is read back as this very number."""
    text = repr(number)
    return text.removesuffix(".0")
