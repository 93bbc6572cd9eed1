"""What can go wrong between a gateway and a replica, apart from the answer to a job."""


class RefusedArtifactError(Exception):
    """A replica will not serve the artifact; the message says what is wrong with it."""


class FrameError(Exception):
    """What came is no frame of this protocol, or too large; the connection cannot go on."""


class HandshakeError(Exception):
    """The other side is none of ours, or does not know the token; the message says what it did."""


class ConnectError(Exception):
    """A replica cannot be reached; the message has its address and why."""
