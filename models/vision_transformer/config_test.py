"""Model descriptions: what is accepted, and that what is not is refused with a useful message."""

import pytest
from pydantic import ValidationError

from models.architecture import Model, ModelConfigError, parse_model

VALID = {
    "image_size": 8,
    "patch_size": 2,
    "num_channels": 1,
    "num_classes": 10,
    "embed_dim": 64,
    "num_heads": 4,
    "num_layers": 3,
    "mlp_ratio": 2,
}


def test_derived_sizes() -> None:
    config = parse_model("vision_transformer", VALID).config
    assert config.seq_len == 16
    assert config.patch_dim == 4
    assert config.head_dim == 16
    assert config.mlp_dim == 128
    assert config.image_shape == (8, 8, 1)


def test_survives_a_round_trip_through_json() -> None:
    model = parse_model("vision_transformer", VALID)
    assert Model.model_validate_json(model.model_dump_json()) == model


def test_cannot_be_changed() -> None:
    config = parse_model("vision_transformer", VALID).config
    with pytest.raises(ValidationError, match="frozen"):
        config.embed_dim = 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 3}, "image_size 8 is not a multiple of patch_size 3"),
        ({"num_heads": 5}, "embed_dim 64 is not a multiple of num_heads 5"),
        ({"num_layers": 0}, "num_layers: input should be greater than or equal to 1, got 0"),
        ({"num_classes": 1}, "num_classes: input should be greater than or equal to 2, got 1"),
        ({"embed_dim": "64"}, "embed_dim: input should be a valid integer, got '64'"),
        ({"embed_dim": True}, "embed_dim: input should be a valid integer, got True"),
        ({"embed_dim": 64.5}, "embed_dim: input should be a valid integer"),
        ({"embed_dims": 64}, "embed_dims: unknown key, did you mean 'embed_dim'?"),
    ],
)
def test_refuses(change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelConfigError) as error:
        parse_model("vision_transformer", VALID | change)
    assert message in str(error.value)


def test_lists_every_problem_at_once() -> None:
    with pytest.raises(ModelConfigError) as error:
        parse_model("vision_transformer", {"num_layers": -1, "colour": "red"})
    for key in ("image_size: missing", "num_layers: input", "colour: unknown key"):
        assert key in str(error.value)


def test_refuses_an_unknown_architecture() -> None:
    with pytest.raises(
        ModelConfigError, match="architecture: input should be 'vision_transformer', got 'resnet'"
    ):
        parse_model("resnet", VALID)
