"""From what a user names to what is served: the registry, trust, and what is known of a model."""

from registry.access import Access, is_path
from serving.configuration.model_config import ModelConfig
from serving.core.model import ServedModel, served_model


class References:
    """Where references lead. What it does may take seconds: it reads, and may download.

    Args:
        access: The user's registry, and whom they trust.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    def find(self, wanted: ModelConfig) -> ServedModel:
        """Returns what a reference means now. Its artifact is on this machine, and trusted.

        Raises:
            ArtifactError: There is none, it must not be trusted, or it cannot be served.
            ModelConfigError: This tree has no such architecture.
            PathError: The path leads nowhere.
        """
        found = self._access.find(wanted.reference)
        return served_model(
            found.descriptor,
            name=wanted.name or "",
            framework=wanted.framework,
            max_batch_size=wanted.max_batch_size,
        )

    def digest(self, wanted: ModelConfig) -> str:
        """Returns which artifact a reference means now, without fetching it.

        Raises:
            ArtifactError: There is none.
        """
        if is_path(wanted.reference):
            return self._access.find(wanted.reference).descriptor.digest
        return self._access.store.resolve(wanted.reference).digest
