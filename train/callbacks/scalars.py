"""What events come to as curves: numbers by name, after a step."""

from collections.abc import Mapping
from dataclasses import asdict

from train.events import Evaluated, Event, PeakMemory, Resources, Stepped


def scalars_of(event: Event) -> dict[str, float]:
    """Returns the numbers of an event, by names such as `train/loss`; empty: it has none."""
    match event:
        case Stepped():
            own = {
                "loss": event.loss,
                "learning_rate": event.learning_rate,
                "examples_per_s": event.examples_per_s,
            }
            return {
                **_below("train", {**own, **event.metrics}),
                **_below("fraction", event.fractions),
                **_below("phase_s", event.phases),
            }
        case Resources():
            numbers = asdict(event)
            for gpu, usage in numbers.pop("gpus").items():
                numbers |= {f"gpu_{gpu}_{name}": value for name, value in usage.items()}
            return _below("resources", {k: v for k, v in numbers.items() if k != "step"})
        case Evaluated():
            return _below(event.measured_on.replace("-", "_"), event.metrics)
        case PeakMemory():
            return _below("peak_memory", {k: v for k, v in asdict(event).items() if v is not None})
    return {}


def _below(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in values.items()}
