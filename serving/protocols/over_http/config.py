"""What can be configured about HTTP."""

from pydantic import Field

from base.config import Section

_DAY_S = 24 * 3600


class HttpConfig(Section):
    """Limits of HTTP: what one request may hold, and how long others wait for a slow one."""

    max_body_bytes: int = Field(
        default=64 * 2**20,
        ge=1024,
        le=2**31 - 1,
        description="Largest body of a request, once it is inflated",
    )
    max_json_bytes: int = Field(
        default=8 * 2**20,
        ge=1024,
        le=2**31 - 1,
        description="Largest JSON of a request; larger tensors come as binary data after it",
    )
    max_reading_bytes: int = Field(
        default=256 * 2**20,
        ge=1024,
        le=2**40,
        description="Of all bodies that are being read at once",
    )
    max_image_bytes: int = Field(
        default=6 * 2**20,
        ge=1024,
        le=2**31 - 1,
        description="Largest image as a file; in JSON it takes a third more",
    )
    max_image_pixels: int = Field(
        default=2**24,
        ge=1,
        le=2**28,
        description="Largest image that is decoded, which takes about 16 bytes a pixel",
    )
    image_threads: int = Field(
        default=2, ge=1, le=64, description="Images that are decoded at once"
    )
    max_waiting_images: int = Field(
        default=64, ge=0, le=2**16, description="Images that wait for a thread"
    )
    timeout_s: float = Field(
        default=60.0, gt=0, le=_DAY_S, description="Longest that a request may take"
    )
    header_s: float = Field(
        default=10.0, gt=0, le=_DAY_S, description="Longest that the head of a request may take"
    )
    idle_s: float = Field(
        default=75.0, gt=0, le=_DAY_S, description="Longest that a connection may be idle"
    )
    stall_s: float = Field(
        default=10.0,
        gt=0,
        le=_DAY_S,
        description="Longest that a client may be slower than `min_bytes_per_s`",
    )
    min_bytes_per_s: int = Field(
        default=2**14,
        ge=1,
        le=2**40,
        description="Rate at which a client must send a body and read a reply, on average",
    )
    max_connections: int = Field(
        default=1000,
        ge=1,
        le=2**20,
        description="Connections at once; the one that is idle the longest makes room",
    )
