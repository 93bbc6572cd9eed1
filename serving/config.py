"""What can be configured about the gateway."""

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from base.config import Section


class GatewayConfig(Section):
    """How to serve one artifact."""

    artifact: Path
    host: str = "127.0.0.1"
    port: int = Field(default=8001, ge=0, le=65535, description="0 lets the system choose")
    framework: Literal["flax", "torch"] | None = Field(
        default=None, description="who computes; by default the framework that trained the model"
    )
    replicas: int = Field(default=1, ge=1, le=64)
    insecure_bind: bool = Field(
        default=False, description="allow a host that is not loopback, without encryption"
    )
    max_batch_size: int = Field(default=64, ge=1)
    max_message_bytes: int = Field(default=64 * 2**20, ge=1024)
    timeout_s: float = Field(default=60.0, gt=0, description="longest that a request may take")
    drain_s: float = Field(default=10.0, ge=0, description="time for running requests to finish")

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
