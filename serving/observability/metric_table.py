"""Every metric of the gateway's own. The tables in docs/observability.md are made of this one.

Names follow https://prometheus.io/docs/practices/naming/: one prefix, base units, and `_total` of
what only grows.
"""

from serving.observability.state_metrics import CACHE, MODELS, REDIS, SERVER
from serving.observability.traffic_metrics import OUTPUTS, REQUESTS

# Under the titles by which people look for them.
GROUPS = {
    "Requests": REQUESTS,
    "What models say": OUTPUTS,
    "Models, now": MODELS,
    "The gateway": SERVER,
    "The cache": CACHE,
    "The Redis that gateways share answers through": REDIS,
}

FAMILIES = tuple(family for families in GROUPS.values() for family in families)
