"""The sections that say what is served, and how one model is."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from models.network import Framework
from registry.access import is_path
from registry.errors import BadReferenceError
from registry.store.references import is_name, parse_reference
from serving.core.model_policy import ModelPolicy


class ModelOptions(ModelPolicy):
    """What holds for one model; the server's own holds for those that do not say otherwise."""

    framework: Framework | None = Field(
        default=None, description="Who computes; null: the framework that trained the model"
    )
    replicas: int = Field(
        default=1, ge=1, le=64, description="Processes that hold each version of a model"
    )
    max_batch_size: int = Field(
        default=64,
        ge=1,
        le=2**16,
        description="Examples of a request, and of a batch; the more, the longer the start",
    )


def _check_reference(reference: str) -> str:
    if not reference:
        raise ValueError("expected a reference such as digits@champion, or a directory, got ''")
    if not is_path(reference):
        try:
            parse_reference(reference)
        except BadReferenceError as error:
            raise ValueError(f"{error}; a directory has a slash in it") from error
    return reference


def _check_name(name: str) -> str:
    if not is_name(name):
        raise ValueError(
            "expected at most 63 lower-case letters and digits, joined by single '.', '_' or '-', "
            f"got {name!r}"
        )
    return name


class ModelConfig(ModelOptions):
    """One model that is served."""

    reference: Annotated[str, AfterValidator(_check_reference)] = Field(
        description="What the registry calls it, such as digits@champion or bytes:1, or the "
        "directory of an artifact, such as ./artifact"
    )
    name: Annotated[str, AfterValidator(_check_name)] | None = Field(
        default=None, description="Under which it is served; null: its own"
    )


def _from_reference(value: object) -> object:
    return {"reference": value} if isinstance(value, str) else value


# As a file or an option has it: a reference alone, or a section.
Model = Annotated[ModelConfig, BeforeValidator(_from_reference)]
