"""The one error of this room."""


class ArtifactError(Exception):
    """An artifact that cannot be published or must not be trusted, why, and what to do."""
