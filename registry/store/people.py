"""Who does something to a store, for people to read."""

import getpass
import os
import socket


def this_user() -> str:
    """Returns who runs this program: user and host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
