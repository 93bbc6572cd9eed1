"""What holds for the requests to one model: one section of the configuration."""

from typing import Literal

from pydantic import Field

from base.config import Section
from serving.policies.bounded_queue import QueueConfig
from serving.policies.breaker import BreakerConfig
from serving.policies.concurrency_limit import ConcurrencyConfig
from serving.policies.gathering import GatheringConfig
from serving.policies.latency_bound import LatencyConfig
from serving.policies.retry_budget import RetryConfig
from serving.policies.service_time import ServiceTimeConfig


class ModelPolicy(Section):
    """How requests to a model wait, gather, fail and are tried again."""

    queue: QueueConfig = Field(
        default_factory=QueueConfig, description="Requests that wait for a replica"
    )
    gathering: GatheringConfig = Field(
        default_factory=GatheringConfig, description="Waiting for others, though a replica is free"
    )
    concurrency: ConcurrencyConfig = Field(
        default_factory=ConcurrencyConfig, description="The adaptive limit of requests in work"
    )
    latency: LatencyConfig = Field(
        default_factory=LatencyConfig, description="How long answers may take under overload"
    )
    breaker: BreakerConfig = Field(
        default_factory=BreakerConfig, description="Leaving a model alone that fails"
    )
    retry: RetryConfig = Field(
        default_factory=RetryConfig, description="Asking another replica when one dies"
    )
    service_time: ServiceTimeConfig = Field(
        default_factory=ServiceTimeConfig, description="Estimating how long a batch takes"
    )
    nonfinite: Literal["refuse", "allow"] = Field(
        default="refuse",
        description="What to do with NaN or infinity that a model gives for finite input: refuse "
        "the request, or send it",
    )
    max_jobs_per_replica: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Batches at one replica: with 2, one travels while the other is computed",
    )
