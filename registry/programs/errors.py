"""The errors of programs."""

from registry.errors import ArtifactError


class ProgramError(ArtifactError):
    """A program that an artifact has not, or that cannot be loaded or run, why, and what to do."""
