"""The networks by name: a new one is a folder here and a line in the table."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, SerializeAsAny, ValidationError, ValidationInfo, field_validator

from base.config import Section, check_section, explain, one_of
from models.cnn.network import CNN
from models.mlp.network import MLP
from models.network import Network, Signature

ARCHITECTURES: dict[str, Network[Any]] = {network.name: network for network in (CNN, MLP)}


class ModelConfigError(ValueError):
    """A model description that cannot be built; the message lists every problem."""


class Model(Section):
    """A network of one configuration: what is trained, recorded in artifacts and served."""

    architecture: Annotated[str, one_of(ARCHITECTURES)] = Field(description="which network")
    config: SerializeAsAny[Section]

    @field_validator("config", mode="plain")
    @classmethod
    def _check_config(cls, value: object, info: ValidationInfo) -> object:
        network = ARCHITECTURES.get(info.data.get("architecture", ""))
        # Of an unknown network nothing is known to be wrong but its name.
        return value if network is None else check_section(network.config, value)

    @property
    def network(self) -> Network[Any]:
        """The record of the network."""
        return ARCHITECTURES[self.architecture]

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self.network.signature(self.config)


def parse_model(architecture: str, config: Mapping[str, Any]) -> Model:
    """Checks a model description, for example the one recorded in an artifact.

    Args:
        architecture: A key of `ARCHITECTURES`.
        config: The fields of that architecture's configuration.

    Raises:
        ModelConfigError: The architecture is unknown, or a field is unknown, missing, of the wrong
            type or out of range.
    """
    try:
        return Model.model_validate({"architecture": architecture, "config": dict(config)})
    except ValidationError as error:
        raise ModelConfigError(f"model: {'; '.join(explain(error, Model))}") from error
