"""How clients load and unload models, where they may."""

from typing import Protocol


class ModelControl(Protocol):
    """Loads and unloads models at the wish of clients."""

    async def load(self, name: str) -> None:
        """Serves a model of the registry, or looks again what its name means.

        Raises:
            ServingError: It cannot be served; the message says why.
        """

    async def unload(self, name: str) -> None:
        """Serves a model no more.

        Raises:
            ServingError: NOT_FOUND.
        """
