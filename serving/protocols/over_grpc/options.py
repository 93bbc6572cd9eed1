"""How a gRPC server behaves towards its connections, and the options of gRPC that make it so."""

from pydantic import Field

from base.config import Section

_MS_PER_S = 1e3

_DAY_S = 24 * 3600

_MAX_PENDING = 2**16


class GrpcOptions(Section):
    """Limits of gRPC: what one request may hold, and how connections live and end."""

    max_message_bytes: int = Field(
        default=64 * 2**20,
        ge=1024,
        le=2**31 - 1,  # gRPC keeps it in 32 bits
        description="Largest request and reply; a larger one gets RESOURCE_EXHAUSTED",
    )
    timeout_s: float = Field(
        default=60.0,
        gt=0,
        le=_DAY_S,
        description="Longest that a request may take, to arrive as well as to be answered",
    )
    read_s: float = Field(
        default=60.0,
        gt=0,
        le=_DAY_S,
        description="Longest that a client may take to read an answer; then its connection ends",
    )
    max_slow_calls: int = Field(
        default=16,
        ge=1,
        le=2**16,
        description="Calls that arrive slowly, at once; each may hold a message",
    )
    max_streams: int = Field(
        default=1024,
        ge=1,
        le=2**20,
        description="Calls of one connection at once; more wait at the client",
    )
    max_connection_age_s: float = Field(
        default=3600.0,
        gt=0,
        le=_DAY_S,
        description="After that a client is asked to connect anew, which spreads connections over "
        "servers that came later; what runs goes on",
    )
    connection_grace_s: float = Field(
        default=120.0,
        ge=0,
        le=_DAY_S,
        description="After that the old connection ends, and with it whatever never ended, such as "
        "streams of half a message",
    )
    keepalive_s: float = Field(
        default=60.0,
        gt=0,
        le=_DAY_S,
        description="A connection that is silent for so long is asked whether it is there",
    )
    keepalive_timeout_s: float = Field(
        default=20.0, gt=0, le=_DAY_S, description="How long it may take to say so"
    )
    # Clients in Go and Java ping every 10 s at most; half of that leaves room for a network that
    # delays one ping and not the next. Under gRPC's own limit of 5 minutes they lose their calls.
    min_ping_interval_s: float = Field(
        default=5.0,
        gt=0,
        le=_DAY_S,
        description="A client that pings more often loses its connection",
    )
    handshake_s: float = Field(
        default=20.0,
        gt=0,
        le=_DAY_S,
        description="How long a connection may take to become one of HTTP/2",
    )
    reflection: bool = Field(
        default=False, description="Tell clients which methods and messages there are"
    )


def channel_options(options: GrpcOptions) -> list[tuple[str, int]]:
    """What gRPC is told."""
    return [
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", options.max_message_bytes),
        # By default a second server could listen on the same port and take half the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", options.max_streams),
        # Of calls that wait to be looked at, gRPC would begin to cancel some from 1,000 on, and
        # clients would not know why. They are looked at in time, and refused as they should be.
        ("grpc.server.max_pending_requests", _MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
        ("grpc.max_connection_age_ms", _milliseconds(options.max_connection_age_s)),
        ("grpc.max_connection_age_grace_ms", _milliseconds(options.connection_grace_s)),
        ("grpc.keepalive_time_ms", _milliseconds(options.keepalive_s)),
        ("grpc.keepalive_timeout_ms", _milliseconds(options.keepalive_timeout_s)),
        # gRPC pings to measure, too, and asks no second time while that is not answered.
        ("grpc.http2.ping_timeout_ms", _milliseconds(options.keepalive_timeout_s)),
        ("grpc.server_handshake_timeout_ms", _milliseconds(options.handshake_s)),
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            _milliseconds(options.min_ping_interval_s),
        ),
        # Clients behind a NAT ping to keep idle connections; otherwise once in 2 hours.
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _milliseconds(seconds: float) -> int:
    return round(seconds * _MS_PER_S)
