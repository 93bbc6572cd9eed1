"""Why the gateway did not start, or did not answer. service.py turns the latter into statuses."""


class InvalidRequestError(Exception):
    """A request that does not fit the model; the message states the signature expected."""


class TensorContentError(Exception):
    """Values of a tensor, in a request or a reply, that do not fit its datatype and shape."""


class UnknownModelError(Exception):
    """A request for a model, or a version of it, that is not served here."""


class OverloadedError(Exception):
    """Too many requests wait already; this one was not started."""


class UnavailableError(Exception):
    """No replica can answer now; the request may be tried again."""


class RefusedArtifactError(Exception):
    """A replica will not serve the artifact; the message says what is wrong with it."""


class StartError(Exception):
    """The gateway cannot start; the message says why and what to do."""
