"""All that can be configured about a gateway: one section, the same in files and options."""

from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from base.config import FROM_LIST, Section, explain
from serving.configuration.model_config import Model, ModelConfig, ModelOptions
from serving.control.options import RayConfig
from serving.core.cache import CacheConfig
from serving.core.redis_config import RedisConfig
from serving.observability.log_config import LogConfig
from serving.policies.token_bucket import RateLimitConfig
from serving.protocols.over_grpc.options import GrpcOptions
from serving.protocols.over_http.config import HttpConfig

_DAY_S = 24 * 3600


class LimitsConfig(Section):
    """How much work the gateway takes at once, of all models together."""

    max_inflight_requests: int = Field(
        default=4096, ge=1, le=10_000_000, description="Requests that are not answered yet"
    )
    max_inflight_bytes: int = Field(
        default=2**29,
        ge=1024,
        le=2**50,
        description="Memory that those hold, in bytes; a lone request is taken in any case",
    )


class DrainConfig(Section):
    """How the gateway ends when it is told to."""

    window_s: float = Field(
        default=5.0,
        ge=0,
        le=_DAY_S,
        description="Time in which it is not ready and still answers, so that callers turn away",
    )
    timeout_s: float = Field(
        default=30.0, ge=0, le=_DAY_S, description="Time after that for requests to be answered"
    )


_PORT = "; 0: any that is free"


class ServeConfig(ModelOptions):
    """One gateway, all of it."""

    models: Annotated[tuple[Model, ...], FROM_LIST] = Field(
        default=(),
        description="What is served, each a reference or a section of its own",
    )
    registry: str | None = Field(
        default=None,
        description="Directory or URL of the registry; null: $HPC_REGISTRY, or else the user's own",
    )
    trust: str | None = Field(
        default=None,
        description="File that says whose artifacts are served; null: $HPC_TRUST, or else anyone's",
    )
    follow_aliases_s: float | None = Field(
        default=5.0,
        ge=0.1,
        le=_DAY_S,
        description="Time from one look at where aliases point to the next; null: they are looked "
        "at when the gateway starts",
    )
    allow_model_control: bool = Field(
        default=False, description="Let clients load and unload models of the registry"
    )
    host: str = Field(default="127.0.0.1", description="Address or name to listen at")
    insecure_bind: bool = Field(
        default=False, description="Allow a host that is not loopback, without encryption"
    )
    grpc_port: int = Field(default=8001, ge=0, le=65535, description=f"Port of gRPC{_PORT}")
    http_port: int = Field(default=8000, ge=0, le=65535, description=f"Port of HTTP{_PORT}")
    admin_port: int = Field(
        default=8080, ge=0, le=65535, description=f"Port of /metrics, /livez and /readyz{_PORT}"
    )
    grpc: GrpcOptions = GrpcOptions()
    http: HttpConfig = HttpConfig()
    ray: RayConfig = RayConfig()
    limits: LimitsConfig = LimitsConfig()
    rate_limit: RateLimitConfig = RateLimitConfig()
    cache: CacheConfig = CacheConfig()
    redis: RedisConfig = RedisConfig()
    drain: DrainConfig = DrainConfig()
    log: LogConfig = LogConfig()

    def of_model(self, model: ModelConfig) -> ModelConfig:
        """Returns what holds for a model: its own, and the server's where it says nothing."""
        common = self.model_dump(include=set(ModelOptions.model_fields))
        return ModelConfig.model_validate(_merged(common, model.model_dump(exclude_unset=True)))

    @model_validator(mode="after")
    def _check_models(self) -> Self:
        if not self.models and not self.allow_model_control:
            raise ValueError(
                "models: there is none; name one, such as --model digits@champion or --model "
                "./artifact, or let clients load some, by --allow-model-control"
            )
        for index, model in enumerate(self.models):
            try:
                self.of_model(model)
            except ValidationError as error:
                problems = "; ".join(explain(error, ModelConfig))
                raise ValueError(f"models.{index}, with what holds for all: {problems}") from error
        seen = set()
        for model in self.models:
            key = (model.name, model.reference)
            if key in seen:
                raise ValueError(f"models: {model.reference!r} is there twice")
            seen.add(key)
        return self

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        ports: dict[int, str] = {}
        for key in ("grpc_port", "http_port", "admin_port"):
            port = getattr(self, key)
            if port and port in ports:
                raise ValueError(f"{key}: {port} is {ports[port]} already; give another, or 0")
            ports[port] = key
        if self.redis.url is not None and not self.cache.enabled:
            raise ValueError("redis.url: there is no cache to share; set cache.enabled, too")
        return self


def _merged(common: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Returns keys within keys, those that are given in place of the common ones."""
    result = dict(common)
    for key, value in given.items():
        both = isinstance(value, dict) and isinstance(common.get(key), dict)
        result[key] = _merged(common[key], value) if both else value
    return result
