"""The constants of the hash by which both frameworks draw numbers."""

GOLDEN_RATIO = 0x9E3779B9
FIRST, SECOND = 0x7FEB352D, 0x846CA68B
