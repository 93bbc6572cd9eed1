"""What a residual stack promises besides being the same in both frameworks.

Where nothing else is said it is asked of PyTorch, to which `parity_test` holds Flax.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from models.context import Context
from models.flax.weights import load_weights
from models.mlp.config import MlpConfig
from models.mlp.decoding import after, start
from models.mlp.flax_network import Mlp as FlaxMlp
from models.mlp.torch_network import Mlp as TorchMlp
from models.mlp.weights import weights
from models.testing.parity import Arrays, stirred

# Of logits about 1, from a few hundred float32 operations in another order.
TOLERANCE = 2e-5

# Of the largest logit; bfloat16 has 8 bits, each of two blocks a dozen roundings.
LOW_PRECISION = 0.03

VOCAB_SIZE, SEQ_LEN = 7, 8
_RNG = np.random.default_rng(0)
TEXT = _RNG.integers(0, VOCAB_SIZE, (3, SEQ_LEN), np.int32)
LENGTHS = [8, 5, 3]

LANGUAGE: dict[str, Any] = {
    "input": {"tokens": {"vocab_size": VOCAB_SIZE, "seq_len": SEQ_LEN, "stddev": 0.5}},
    "hidden_sizes": [8],
    "num_blocks": 2,
    "activation": "identity",
    "mixer": {"kind": "attention", "num_heads": 2, "causal": True},
    "head": {"kind": "next_token"},
}
LINEAR = LANGUAGE["mixer"] | {"kind": "linear_attention"}
CAUSAL: dict[str, dict[str, Any]] = {
    "rotary and ALiBi": {"positions": {"rotary": {"enabled": True}, "alibi": {"enabled": True}}},
    "learned positions, window": {
        "positions": {"learned": {"enabled": True, "stddev": 0.5}},
        "mixer": LANGUAGE["mixer"] | {"window": 2, "num_kv_heads": 1},
    },
    "linear": {"mixer": LINEAR},
    "linear, decay": {"mixer": LINEAR | {"decay": "fixed", "feature_map": "relu"}},
    "experts": {"mixture_of_experts": {"num_experts": 3}},
}
POOLED: dict[str, dict[str, Any]] = {
    pooling: {
        "num_classes": 3,
        "mixer": LANGUAGE["mixer"] | {"causal": pooling == "last"},
        "head": {"pooling": pooling},
        "positions": {
            "learned": {"enabled": True, "stddev": 0.5},
            "rotary": {"enabled": True},
            "alibi": {"enabled": True},
        },
    }
    for pooling in ("mean", "last", "class_token")
}
POOLED["linear, experts"] = {
    "num_classes": 3,
    "mixer": LINEAR | {"causal": False},
    "mixture_of_experts": {"num_experts": 2, "capacity_factor": 0.7},
    "head": {},
}


def _weights(config: MlpConfig) -> Arrays:
    return stirred(weights(config), "float32", scale=0.3)


def _torch(changes: dict[str, Any]) -> tuple[MlpConfig, TorchMlp]:
    config = MlpConfig.model_validate(LANGUAGE | changes)
    module = TorchMlp(config)
    state = {name: torch.tensor(value) for name, value in _weights(config).items()}
    module.load_state_dict(state)
    return config, module


def _padded(*, left: bool) -> torch.Tensor:
    rows = np.full_like(TEXT, -1)
    for row, text, length in zip(rows, TEXT, LENGTHS, strict=True):
        row[SEQ_LEN - length :] = text[:length] if left else row[SEQ_LEN - length :]
        row[:length] = row[:length] if left else text[:length]
    return torch.tensor(rows)


@pytest.mark.parametrize("case", CAUSAL)
def test_later_tokens_change_nothing(case: str) -> None:
    _, network = _torch(CAUSAL[case])
    changed = TEXT.copy()
    changed[:, 5] = (changed[:, 5] + 1) % VOCAB_SIZE
    with torch.no_grad():
        difference = (network(torch.tensor(TEXT)) - network(torch.tensor(changed))).abs()
    moved = difference.amax(dim=(0, 2))
    assert torch.all(moved[:5] == 0) and torch.all(moved[5] > 1e-3)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("case", CAUSAL)
def test_padding_changes_no_logits(case: str, left: bool) -> None:
    _, network = _torch(CAUSAL[case])
    with torch.no_grad():
        together = network(_padded(left=left))
        for row, text, length in zip(together, TEXT, LENGTHS, strict=True):
            own = row[SEQ_LEN - length :] if left else row[:length]
            alone = network(torch.tensor(text[None, :length]))[0]
            torch.testing.assert_close(own, alone, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("case", POOLED)
def test_padding_changes_no_answer(case: str, left: bool) -> None:
    _, network = _torch(POOLED[case])
    with torch.no_grad():
        together = network(_padded(left=left))
        for answer, text, length in zip(together, TEXT, LENGTHS, strict=True):
            alone = network(torch.tensor(text[None, :length]))[0]
            torch.testing.assert_close(answer, alone, rtol=0, atol=TOLERANCE)


DROPS: dict[str, Any] = {
    "dropout_rate": 0.2,
    "embedding_dropout_rate": 0.2,
    "feed_forward": {"dropout_rate": 0.2},
    "block": {"dropout_rate": 0.2, "stochastic_depth": {"rate": 0.5}},
}


def test_an_example_is_the_same_wherever_in_a_batch_it_stands() -> None:
    mixer = LANGUAGE["mixer"] | {"dropout_rate": 0.2}
    _, network = _torch(DROPS | {"mixer": mixer})
    seeds, order = torch.tensor([5, -6, 7]), [2, 0, 1]
    with torch.no_grad():
        y = network(torch.tensor(TEXT), Context(train=True, seeds=seeds))
        other = network(torch.tensor(TEXT[order]), Context(train=True, seeds=seeds[order]))
        plain = network(torch.tensor(TEXT))
    torch.testing.assert_close(other, y[order], rtol=0, atol=TOLERANCE)
    assert (y - plain).abs().max() > 0.1


def test_nothing_is_dropped_at_rates_or_scales_of_zero() -> None:
    _, plain = _torch({})
    _, dropping = _torch(DROPS)
    seeds, text = torch.tensor([5, -6, 7]), torch.tensor(TEXT)
    training = Context(train=True, seeds=seeds)
    still = dataclasses.replace(training, dropout_scale=0.0, stochastic_depth_scale=0.0)
    with torch.no_grad():
        expected = plain(text)
        assert torch.equal(plain(text, training), expected)
        assert torch.equal(dropping(text, still), expected)
        assert not torch.equal(dropping(text, training), expected)


def test_layer_scale_of_zero_is_the_identity() -> None:
    config, network = _torch({"block": {"layer_scale": 0.0}})
    for index in range(config.total_blocks):
        for branch in ("mixer", "feed_forward"):
            assert not np.any(weights(config)[f"blocks.{index}.{branch}_scale"].init((8,), _RNG))
            network.get_parameter(f"blocks.{index}.{branch}_scale").data.zero_()
    context = Context(keep_values=True)
    network(torch.tensor(TEXT), context)
    values = context.sown.values
    assert list(values) == ["embedding", "stem", "blocks.0", "blocks.1"]
    assert torch.equal(values["blocks.1"], values["stem"])


def test_zero_init_is_the_identity() -> None:
    changes = {"block": {"zero_init": True}, "mixture_of_experts": {"num_experts": 2, "every": 2}}
    config = MlpConfig.model_validate(LANGUAGE | changes)
    network = TorchMlp(config)
    drawn = {name: torch.tensor(w.init(w.shape, _RNG)) for name, w in weights(config).items()}
    network.load_state_dict(drawn, assign=True)
    context = Context(keep_values=True)
    network(torch.tensor(TEXT), context)
    assert torch.equal(context.sown.values["blocks.1"], context.sown.values["stem"])


PROMPT = 3


@pytest.mark.parametrize("case", CAUSAL)
def test_token_by_token_gives_what_one_pass_gives(case: str) -> None:
    config, network = _torch(CAUSAL[case])
    prompts = _padded(left=True)
    with torch.no_grad():
        whole = network(prompts)
        context = start(config)
        logits = [network(prompts[:, :PROMPT], context)]
        for place in range(PROMPT, SEQ_LEN):
            context = after(context)
            logits.append(network(prompts[:, place : place + 1], context))
    parts = torch.cat(logits, dim=1)
    present = prompts >= 0
    torch.testing.assert_close(parts[present], whole[present], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("case", ["rotary and ALiBi", "learned positions, window", "linear"])
def test_flax_decodes_the_same_with_two_programs(case: str) -> None:
    config, network = _torch(CAUSAL[case])
    module = load_weights(lambda: FlaxMlp(config), _weights(config))
    prompts = _padded(left=True)
    with torch.no_grad():
        whole = network(prompts).numpy()

    @jax.jit
    def run(tokens: jax.Array, caches: dict[str, Any]) -> tuple[jax.Array, dict[str, Any]]:
        context = Context(caches=caches)
        return module(tokens, context), context.sown.caches

    tokens = jnp.asarray(prompts.numpy())
    logits, caches = run(tokens[:, :PROMPT], start(config).caches)
    parts = [logits]
    for place in range(PROMPT, SEQ_LEN):
        logits, caches = run(tokens[:, place : place + 1], caches)
        parts.append(logits)
    present = prompts.numpy() >= 0
    together = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(together[present], whole[present], rtol=0, atol=TOLERANCE)
    assert run._cache_size() == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (POOLED["mean"], "decoding needs head.kind next_token, got classification"),
        (
            {"mixture_of_experts": {"num_experts": 2, "capacity_factor": 1.0}},
            "capacity_factor null, got 1.0",
        ),
    ],
)
def test_what_cannot_be_decoded_says_so(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        start(MlpConfig.model_validate(LANGUAGE | changes))


@pytest.mark.parametrize("placement", ["before", "after"])
def test_a_block_is_torchs_transformer_layer(placement: str) -> None:
    config, network = _torch(
        {"block": {"norm_placement": placement}, "feed_forward": {"hidden_ratio": 2}}
    )
    layer = nn.TransformerEncoderLayer(
        8,
        2,
        16,
        dropout=0.0,
        activation="gelu",
        layer_norm_eps=config.norm.epsilon,
        batch_first=True,
        norm_first=placement == "before",
    )
    block = network.blocks[0].state_dict()
    theirs = {
        "self_attn.in_proj_weight": _joined(block, "weight"),
        "self_attn.in_proj_bias": _joined(block, "bias"),
    }
    for ours, name in (
        ("mixer.out", "self_attn.out_proj"),
        ("feed_forward.fc1", "linear1"),
        ("feed_forward.fc2", "linear2"),
        ("mixer_norm", "norm1"),
        ("feed_forward_norm", "norm2"),
    ):
        theirs |= {f"{name}.{leaf}": block[f"{ours}.{leaf}"] for leaf in ("weight", "bias")}
    layer.load_state_dict(theirs)
    x = torch.tensor(_RNG.normal(size=(2, SEQ_LEN, 8)), dtype=torch.float32)
    mask = nn.Transformer.generate_square_subsequent_mask(SEQ_LEN)
    ours = network.blocks[0](x, Context())
    torch.testing.assert_close(ours, layer(x, src_mask=mask, is_causal=True), rtol=0, atol=1e-5)


def _joined(block: dict[str, torch.Tensor], leaf: str) -> torch.Tensor:
    return torch.cat([block[f"mixer.{name}.{leaf}"] for name in ("query", "key", "value")])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_computes_in_the_dtype_asked_for(dtype: str) -> None:
    config, network = _torch({})
    module = load_weights(lambda: FlaxMlp(config), _weights(config))
    context = Context(dtype=dtype, keep_values=True)
    low = network(torch.tensor(TEXT), context)
    assert context.sown.values["blocks.1"].dtype == getattr(torch, dtype)
    flax = Context(dtype=dtype, keep_values=True)
    ours = module(jnp.asarray(TEXT), flax)
    assert flax.sown.values["blocks.1"].dtype == dtype
    assert low.dtype == torch.float32 and ours.dtype == jnp.float32
    full = network(torch.tensor(TEXT)).detach()
    atol = LOW_PRECISION * full.abs().max().item()
    for logits in (low.detach(), torch.tensor(np.array(ours))):
        torch.testing.assert_close(logits, full, rtol=0, atol=atol)
