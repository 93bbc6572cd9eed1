"""The weights of a vision transformer: their names, shapes and first values."""

from models.initializers import normal, ones, zeros
from models.layers.linear.weights import linear
from models.network import Weight, prefixed
from models.vision_transformer.config import VisionTransformerConfig

# As large as an embedded patch, so that a token says from the start where it stands.
_POSITION_STDDEV = 0.3


def weights(config: VisionTransformerConfig) -> dict[str, Weight]:
    """Returns every weight, by canonical name.

    Matrices are Glorot uniform, position embeddings normal with a deviation of 0.3, LayerNorm the
    identity, biases zero, and the head zero so that training starts from uniform predictions.
    """
    embed, mlp = config.embed_dim, config.mlp_dim
    found: dict[str, Weight] = {
        **prefixed("patch_embed", linear(config.patch_dim, embed)),
        "pos_embed": Weight((config.seq_len, embed), normal(_POSITION_STDDEV)),
    }
    for layer in range(config.num_layers):
        block = f"blocks.{layer}"
        found |= prefixed(f"{block}.norm1", _layer_norm(embed))
        found |= prefixed(f"{block}.attn.qkv", linear(embed, 3 * embed))
        found |= prefixed(f"{block}.attn.proj", linear(embed, embed))
        found |= prefixed(f"{block}.norm2", _layer_norm(embed))
        found |= prefixed(f"{block}.mlp.fc1", linear(embed, mlp))
        found |= prefixed(f"{block}.mlp.fc2", linear(mlp, embed))
    found |= prefixed("norm", _layer_norm(embed))
    return found | prefixed("head", linear(embed, config.num_classes, init=zeros))


def _layer_norm(width: int) -> dict[str, Weight]:
    return {"weight": Weight((width,), ones), "bias": Weight((width,), zeros)}
