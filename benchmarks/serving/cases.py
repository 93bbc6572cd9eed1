"""What the benchmark of serving measures, and what its servers, sides and tables are called."""

from collections.abc import Sequence
from typing import NamedTuple

# The tables of the record.
CLOSED_TABLE, OPEN_TABLE, TENSOR_TABLE, SERVER_TABLE = "callers", "rate", "tensors", "servers"

# The processes that are started, each with all of its children.
FLOOR_SERVER, OUR_SERVER, OUR_CACHING_SERVER = "bare grpc.aio", "ours", "ours, caching"
RAY_SERVER = "Ray Serve"
LITSERVE_SERVER, LITSERVE_BATCHED_SERVER = "LitServe", "LitServe, batching"
MLSERVER_SERVER = "MLServer"
SERVERS = (
    FLOOR_SERVER,
    OUR_SERVER,
    OUR_CACHING_SERVER,
    RAY_SERVER,
    LITSERVE_SERVER,
    LITSERVE_BATCHED_SERVER,
    MLSERVER_SERVER,
)

# Those who answer: a server through one of its protocols. REST is the Open Inference Protocol with
# tensors in binary after the JSON, unless all is in JSON.
FLOOR, OURS_GRPC = "floor gRPC", "ours gRPC"
OURS_REST, OURS_JSON = "ours REST", "ours REST, JSON"
RAY_GRPC, RAY_HTTP = "Ray Serve gRPC", "Ray Serve HTTP"
LITSERVE, MLSERVER_GRPC, MLSERVER_JSON = "LitServe HTTP", "MLServer gRPC", "MLServer REST, JSON"
# The cache knows all answers, or none.
CACHE_HITS, CACHE_MISSES = "ours gRPC, cache hits", "ours gRPC, cache misses"

# A peer's row with this mark is the same peer with batches; what counts of the two is the better
# one, load by load.
BATCHED = ", batched"

# With whom ours is compared: like with like.
PEERS = {
    OURS_GRPC: (RAY_GRPC, MLSERVER_GRPC),
    OURS_REST: (RAY_HTTP, LITSERVE),
    OURS_JSON: (MLSERVER_JSON,),
}
RAYS = (RAY_GRPC, RAY_HTTP)

# Models of which a request holds little: one that takes its time, and one that takes nearly none.
DIGITS, MLP = SMALL_MODELS = ("digits", "mlp")

MIB = 2**20


class Preset(NamedTuple):
    """What is measured unless options say otherwise.

    Attributes:
        models: Of `SMALL_MODELS`.
        callers: How many ask at once, of each model.
        rates: Requests a second, whether or not the last ones were answered, of the first model.
        tensors_mib: Sizes of large inputs.
        tensor_callers: How many send those at once.
        rounds: How often each side has its turn at each load.
        seconds: Of a turn.
    """

    models: Sequence[str]
    callers: Sequence[int]
    rates: Sequence[float]
    tensors_mib: Sequence[int]
    tensor_callers: Sequence[int]
    rounds: int
    seconds: float


DEFAULT = Preset(SMALL_MODELS, (1, 8, 32, 128), (50.0, 200.0, 800.0), (1, 10), (1, 8), 5, 1.0)
QUICK = Preset((DIGITS,), (1, 32), (100.0,), (1,), (4,), 2, 0.5)
