"""What can be configured about the control plane."""

from typing import Annotated

from pydantic import AfterValidator, Field

from base.config import Section
from serving.control.addresses import check_ray_address

_DAY_S = 24 * 3600


class RayConfig(Section):
    """Where and how replicas run: of every version that is served the same."""

    ray_address: Annotated[str, AfterValidator(check_ray_address)] = Field(
        default="local",
        description="The Ray to run replicas in: local for one of this gateway's own, auto for the "
        "one that runs on this machine, or HOST:PORT of a cluster that this machine is part of",
    )
    threads_per_replica: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Threads of a replica's framework; by default a fair share of the cores",
    )
    cpus_per_replica: float = Field(
        default=1.0,
        ge=0,
        le=1024,
        description="Cores that a replica reserves of a cluster's; a Ray of one's own has enough",
    )
    max_replicas: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Processes to which a version that is kept busy is scaled up; by default it "
        "stays at its own number of replicas",
    )
    scale_up_after_s: float = Field(
        default=10.0, ge=0, le=_DAY_S, description="How long replicas are busy until more start"
    )
    scale_down_after_s: float = Field(
        default=300.0, ge=0, le=_DAY_S, description="How long they are not until some are ended"
    )
    replica_tcp: bool = Field(
        default=False,
        description="Have replicas listen at their machine's address even where a socket of the "
        "same machine would do",
    )
    replica_drain_s: float = Field(
        default=30.0,
        ge=0,
        le=_DAY_S,
        description="Time for a replica that ends to answer what it has",
    )
    stuck_after_s: float = Field(
        default=300.0,
        gt=0,
        le=_DAY_S,
        description="A batch that is computed for longer will never end; its replica is replaced",
    )
