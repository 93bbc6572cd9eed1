"""What a layer says that is in it, and an inventory lists."""

from typing import NamedTuple


class Part(NamedTuple):
    """What is in an image.

    Attributes:
        kind: "deb" or "pypi".
        name: As its metadata spells it.
        version: Likewise.
        source: Of a Debian package: what it was built from, "NAME" or, where that has another
            version, "NAME@VERSION".
    """

    kind: str
    name: str
    version: str
    source: str = ""
