"""Why the gateway did not start."""


class StartError(Exception):
    """The gateway cannot start; the message says why and what to do."""
