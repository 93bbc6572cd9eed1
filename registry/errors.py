"""The errors of this room."""


class ArtifactError(Exception):
    """An artifact that cannot be published or must not be trusted, why, and what to do."""


class PlaceTakenError(ArtifactError):
    """A place where no artifact can be put, but one may go beside it."""
