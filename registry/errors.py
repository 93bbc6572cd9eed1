"""The errors of this room."""


class ArtifactError(Exception):
    """An artifact that cannot be published or must not be trusted, why, and what to do."""


class PlaceTakenError(ArtifactError):
    """A place where no artifact can be put, but one may go beside it."""


class StoreError(ArtifactError):
    """A store that cannot be read or written, why, and what to do."""


class NotFoundError(StoreError):
    """Something that a store does not hold, and what it does hold."""


class BadReferenceError(StoreError):
    """A text that refers to no version whatever a store holds, and what is accepted."""


class VersionTakenError(StoreError):
    """A version that is published already; versions never change."""


class SignatureChangedError(StoreError):
    """A model with other inputs or outputs than its major version has."""


class ConflictError(StoreError):
    """Something that another writer changed meanwhile."""


class StageError(StoreError):
    """A move of an alias that the rules of stages do not allow."""


class TrustError(ArtifactError):
    """A trust root, a key or a certificate that cannot be used, why, and what to do."""


class UntrustedError(ArtifactError):
    """An artifact whose origin the policy does not let pass, and why."""
