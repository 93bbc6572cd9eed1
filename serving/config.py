"""What can be configured about the gateway."""

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from base.config import Section
from models.network import Framework

_DAY_S = 24 * 3600


class GatewayConfig(Section):
    """How to serve one artifact: all that the gateway's command line can say."""

    artifact: Path = Field(description="Directory of the artifact to serve")
    host: str = Field(default="127.0.0.1", description="Address to listen on")
    port: int = Field(
        default=8001, ge=0, le=65535, description="Port to listen on; 0 for any free one"
    )
    framework: Framework | None = Field(
        default=None, description="Who computes; by default the framework that trained the model"
    )
    replicas: int = Field(
        default=1, ge=1, le=64, description="Processes that hold the model, of one core each"
    )
    insecure_bind: bool = Field(
        default=False, description="Allow a host that is not loopback, without encryption"
    )
    max_batch_size: int = Field(
        default=64,
        ge=1,
        le=2**16,
        description="Largest batch of a request; the larger, the longer the start",
    )
    max_message_bytes: int = Field(
        default=64 * 2**20,
        ge=1024,
        le=2**31 - 1,  # gRPC keeps it in 32 bits
        description="Largest request or reply",
    )
    timeout_s: float = Field(
        default=60.0, gt=0, le=_DAY_S, description="Longest that a request may take"
    )
    drain_s: float = Field(
        default=10.0, ge=0, le=_DAY_S, description="Time for running requests to finish at the end"
    )

    @model_validator(mode="after")
    def _check_host(self) -> Self:
        if not self.insecure_bind and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host!r} can be reached from outside and traffic is not encrypted; "
                "use 127.0.0.1, or pass --insecure-bind if the network is trusted"
            )
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
