"""Text of others as it may be shown."""


def printable(text: str) -> str:
    """Returns text without line breaks, a terminal's commands and what has no encoding."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
