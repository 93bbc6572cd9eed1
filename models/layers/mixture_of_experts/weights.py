"""The weights of a mixture of experts."""

from models.initializers import normal
from models.layers.feed_forward.config import FeedForwardConfig
from models.layers.feed_forward.weights import feed_forward
from models.layers.linear.weights import linear
from models.layers.mixture_of_experts.config import MixtureConfig
from models.network import Weight, prefixed

# Small, so that at first experts weigh nearly alike and gates do not saturate.
_ROUTER_STDDEV = 0.02


def mixture_of_experts(
    config: MixtureConfig, expert: FeedForwardConfig, width: int
) -> dict[str, Weight]:
    """Returns the weights of the router, of the experts and of those that all tokens share.

    `router.weight [num_experts, width]` is normal with a deviation of 0.02. Under `experts` are the
    names of a feed-forward, each with one dimension more in front, `[num_experts, ...]`, in which
    every expert is drawn as a layer of its own; under `shared.0` and so on, whole feed-forwards.
    """
    router = linear(width, config.num_experts, bias=False, init=normal(_ROUTER_STDDEV))
    experts = {
        name: weight._replace(shape=(config.num_experts, *weight.shape))
        for name, weight in feed_forward(expert, width).items()
    }
    weights = prefixed("router", router) | prefixed("experts", experts)
    for index in range(config.num_shared_experts):
        weights |= prefixed(f"shared.{index}", feed_forward(expert, width))
    return weights
