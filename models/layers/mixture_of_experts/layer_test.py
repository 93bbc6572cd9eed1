"""A mixture of experts is the papers', in both frameworks, and has the properties they promise."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy import stats

from models.layers.feed_forward.config import FeedForwardConfig
from models.layers.feed_forward.torch_layer import FeedForward
from models.layers.feed_forward.weights import feed_forward
from models.layers.mixture_of_experts.config import MixtureConfig
from models.layers.mixture_of_experts.flax_layer import MixtureOfExperts as FlaxMixture
from models.layers.mixture_of_experts.reference import mixture_of_experts as oracle
from models.layers.mixture_of_experts.torch_layer import MixtureOfExperts as TorchMixture
from models.layers.mixture_of_experts.weights import mixture_of_experts
from models.testing.parity import Arrays, Pass, assert_same, of_flax, of_torch, stirred

WIDTH, BATCH, TOKENS = 6, 3, 11
X = np.random.default_rng(0).normal(size=(BATCH, TOKENS, WIDTH))
SEEDS = np.array([3, -4, 5], np.int32)
# The second example is shorter, and the third has a hole.
SEGMENTS = np.zeros((BATCH, TOKENS), np.int32)
SEGMENTS[1, 7:] = SEGMENTS[2, 3] = -1

EXPERT = FeedForwardConfig(hidden_ratio=2)
GATED = FeedForwardConfig(hidden_ratio=2, kind="gated", activation="silu", bias=False)

LOSSES = {"load_balance_weight": 0.3, "router_z_weight": 0.2}
CHOICE = {"routing": "expert_choice", "capacity_factor": 1.0}
CASES: dict[str, tuple[Mapping[str, Any], FeedForwardConfig]] = {
    "dropless": (LOSSES, EXPERT),
    "one": ({"top_k": 1, "capacity_factor": 1.0, **LOSSES}, GATED),
    "room": ({"capacity_factor": 0.6, "normalize_gates": True, **LOSSES}, EXPERT),
    "sigmoid": ({"gate": "sigmoid", "num_shared_experts": 2, **LOSSES}, EXPERT),
    "all": ({"top_k": 4, "gate": "sigmoid", "normalize_gates": True}, EXPERT),
    "choice": ({**CHOICE, "router_z_weight": 0.2}, EXPERT),
    "choice_normalized": (
        {**CHOICE, "capacity_factor": 0.7, "normalize_gates": True, "num_shared_experts": 1},
        GATED,
    ),
    "choice_of_all": ({**CHOICE, "capacity_factor": 9.0, "gate": "sigmoid"}, EXPERT),
}
METRICS = ["tokens_dropped", "choices_dropped", "expert_imbalance"]
NOISE = {"router_jitter": 0.2, "router_noise": 0.3}


def _config(case: str, **more: Any) -> MixtureConfig:
    return MixtureConfig.model_validate({"num_experts": 4, **CASES[case][0], **more})


def _weights(config: MixtureConfig, expert: FeedForwardConfig, dtype: str = "float64") -> Arrays:
    # Routers are stirred far from ties.
    return stirred(mixture_of_experts(config, expert, WIDTH), dtype, scale=0.5)


def _of_torch(
    config: MixtureConfig, expert: FeedForwardConfig, weights: Arrays, x: np.ndarray, **context: Any
) -> Pass:
    return of_torch(lambda: TorchMixture(config, expert, WIDTH, name="a"), weights, x, context)


def _of_flax(
    config: MixtureConfig, expert: FeedForwardConfig, weights: Arrays, x: np.ndarray, **context: Any
) -> Pass:
    return of_flax(lambda: FlaxMixture(config, expert, WIDTH, name="a"), weights, x, context)


@pytest.mark.parametrize("case", CASES)
def test_is_the_papers(case: str) -> None:
    config, expert = _config(case), CASES[case][1]
    weights = _weights(config, expert)
    expected = oracle(weights, X, SEGMENTS >= 0, config, expert)
    ours = _of_torch(config, expert, weights, X, segment_ids=SEGMENTS)
    np.testing.assert_allclose(ours.output, expected.output, rtol=0, atol=1e-12)
    assert ours.sown.keys() == {f"report.{name}" for name in expected.report}
    for name, value in expected.report.items():
        np.testing.assert_allclose(ours.sown[f"report.{name}"], value, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("case", "dtype", "values", "gradients"),
    [
        *((case, "float64", 1e-12, 1e-10) for case in CASES),
        *((case, "float32", 1e-5, 1e-4) for case in ("room", "choice")),
    ],
)
def test_both_frameworks_agree_in_training(
    case: str, dtype: str, values: float, gradients: float
) -> None:
    config = _config(case, **NOISE)
    expert = CASES[case][1].model_copy(update={"dropout_rate": 0.3})
    weights = _weights(config, expert, dtype)
    context = {"train": True, "seeds": SEEDS, "segment_ids": SEGMENTS}
    x = X.astype(dtype)
    ours = _of_torch(config, expert, weights, x, **context)
    other = _of_flax(config, expert, weights, x, **context)
    assert_same(ours, other, values=values, gradients=gradients)
    assert np.abs(ours.gradients["router.weight"]).max() > 0.01
    still = _of_torch(config, expert, weights, x, segment_ids=SEGMENTS)
    assert np.abs(ours.output - still.output).max() > 0.01


def test_gradients_are_finite_differences() -> None:
    config = _config("room", num_shared_experts=1)
    weights = _weights(config, EXPERT)

    def loss(weights: Arrays) -> tuple[float, Pass]:
        ours = _of_torch(config, EXPERT, weights, X)
        cotangent = np.random.default_rng(7).normal(size=X.shape)
        losses = (value for name, value in ours.sown.items() if name.endswith("loss"))
        return float((ours.output * cotangent).sum() + sum(losses)), ours

    _, ours = loss(weights)
    rng = np.random.default_rng(2)
    for name, value in weights.items():
        direction = rng.normal(size=value.shape)
        ahead, behind = (
            loss({**weights, name: value + step * direction})[0] for step in (1e-6, -1e-6)
        )
        slope = float((ours.gradients[name] * direction).sum())
        np.testing.assert_allclose((ahead - behind) / 2e-6, slope, rtol=1e-6, atol=1e-7)


def test_identical_experts_are_a_dense_layer() -> None:
    dense = stirred(feed_forward(EXPERT, WIDTH), "float64")
    expected = of_torch(lambda: FeedForward(EXPERT, WIDTH, name="a"), dense, X).output
    for config in (_config("dropless", normalize_gates=True), _config("all")):
        weights = _weights(config, EXPERT) | {
            f"experts.{name}": np.stack([value] * 4) for name, value in dense.items()
        }
        ours = _of_torch(config, EXPERT, weights, X).output
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_padding_and_the_rest_of_the_batch_change_nothing(case: str) -> None:
    # What is lost by the batch's balance depends on all of it.
    config = _config(case, **NOISE, load_balance_weight=0.0)
    expert = CASES[case][1].model_copy(update={"dropout_rate": 0.3})
    weights = _weights(config, expert)
    length = 7
    padded = X.copy()
    padded[1, length:] = 1e3
    both = _of_torch(config, expert, weights, padded, train=True, seeds=SEEDS, segment_ids=SEGMENTS)
    alone = _of_torch(config, expert, weights, X[1:2, :length], train=True, seeds=SEEDS[1:2])
    np.testing.assert_allclose(both.output[1, :length], alone.output[0], rtol=0, atol=1e-12)
    assert np.all(both.output[SEGMENTS < 0] == 0)
    assert np.all(both.gradients["input"][SEGMENTS < 0] == 0)


def test_dropped_tokens_get_nothing_and_are_counted() -> None:
    config = _config("one")
    weights = _weights(config, EXPERT)
    # All prefer the third expert, which has room for the first three of eleven.
    weights["router.weight"] = np.zeros((4, WIDTH))
    weights["router.weight"][2, 0] = 1.0
    x = X.copy()
    x[..., 0] = 5.0
    ours = _of_torch(config, EXPERT, weights, x)
    assert np.all(np.any(ours.output[:, :3] != 0, axis=-1)) and np.all(ours.output[:, 3:] == 0)
    for name, value in {
        "tokens_dropped": 8 / 11,
        "choices_dropped": 8 / 11,
        "expert_imbalance": 4,
    }.items():
        np.testing.assert_allclose(ours.sown[f"report.{name}"], value, rtol=1e-12)


def test_tokens_that_experts_do_not_choose_are_counted() -> None:
    config = _config("choice", top_k=2, gate="sigmoid")
    weights = _weights(config, EXPERT)
    # All experts like the same tokens: six of eleven go to all four.
    weights["router.weight"] = np.ones((4, WIDTH))
    ours = _of_torch(config, EXPERT, weights, X)
    np.testing.assert_allclose(ours.sown["report.tokens_dropped"], 5 / 11, rtol=1e-12)


@pytest.mark.parametrize("case", ["room", "choice"])
def test_of_equals_the_first_are_chosen(case: str) -> None:
    config, x = _config(case), np.zeros_like(X)
    weights = _weights(config, EXPERT)
    expected = oracle(weights, x, SEGMENTS >= 0, config, EXPERT).output
    for run in (_of_torch, _of_flax):
        ours = run(config, EXPERT, weights, x, segment_ids=SEGMENTS).output
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(BATCH,), (BATCH, 2, 4)], ids=["vectors", "pixels"])
def test_takes_vectors_and_pixels(shape: tuple[int, ...]) -> None:
    config = _config("sigmoid")
    weights = _weights(config, EXPERT)
    x = np.random.default_rng(3).normal(size=(*shape, WIDTH))
    tokens = x.reshape(BATCH, -1, WIDTH)
    expected = oracle(weights, tokens, np.ones(tokens.shape[:2], bool), config, EXPERT).output
    for run in (_of_torch, _of_flax):
        ours = run(config, EXPERT, weights, x).output
        np.testing.assert_allclose(ours, expected.reshape(x.shape), rtol=0, atol=1e-12)


def test_all_padding_gives_zeros_and_no_nan() -> None:
    config = _config("room")
    for run in (_of_torch, _of_flax):
        ours = run(config, EXPERT, _weights(config, EXPERT), X, segment_ids=SEGMENTS * 0 - 1)
        assert np.all(ours.output == 0)
        assert all(np.all(np.isfinite(value)) for value in ours.sown.values())
        assert all(np.all(value == 0) for value in ours.gradients.values())


def test_noise_is_normal_and_of_training_alone() -> None:
    """Seen through a sigmoid gate of one layer whose every expert is the identity's double."""
    config = MixtureConfig(num_experts=2, top_k=2, gate="sigmoid", router_noise=0.5)
    expert = FeedForwardConfig(activation="identity", hidden_ratio=1, bias=False)
    eye = np.eye(WIDTH)
    weights = {
        "router.weight": np.zeros((2, WIDTH)),
        "experts.fc1.weight": np.stack([eye, 0 * eye]),
        "experts.fc2.weight": np.stack([eye, eye]),
    }
    x = np.ones((BATCH, 1000, WIDTH))
    assert np.all(_of_torch(config, expert, weights, x).output == 0.5)
    gates = _of_torch(config, expert, weights, x, train=True, seeds=SEEDS).output[..., 0]
    noise = np.log(gates / (1 - gates)).ravel()
    assert stats.kstest(noise / 0.5, "norm").pvalue > 1e-3


def test_experts_are_drawn_as_layers_of_their_own() -> None:
    config = MixtureConfig(num_experts=64)
    found = mixture_of_experts(config, EXPERT, WIDTH)
    one = feed_forward(EXPERT, WIDTH)
    rng = np.random.default_rng(0)
    for name, weight in one.items():
        stacked = found[f"experts.{name}"]
        assert stacked.shape == (64, *weight.shape)
        drawn = stacked.init(stacked.shape, rng)
        single = np.stack([weight.init(weight.shape, rng) for _ in range(64)])
        assert abs(drawn.std() - single.std()) <= 0.05 * single.std()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ({"num_experts": 2, "top_k": 3}, "top_k 3 is more than num_experts 2"),
        ({"top_k": 1, "normalize_gates": True}, "normalize_gates of top_k 1"),
        ({"routing": "expert_choice"}, "needs a capacity_factor"),
        (
            {"routing": "expert_choice", "capacity_factor": 1.0, "load_balance_weight": 0.1},
            "load_balance_weight 0.1 with routing 'expert_choice'",
        ),
    ],
)
def test_bad_configurations_are_refused(case: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixtureConfig.model_validate(case)


def test_networks_that_cannot_be_routed_so_are_refused() -> None:
    chosen = MixtureConfig(routing="expert_choice", capacity_factor=1.0)
    chosen.check_input(tokens=9, causal=False)
    MixtureConfig().check_input(tokens=1, causal=True)
    with pytest.raises(ValueError, match="look at later tokens; expected 'top_k'"):
        chosen.check_input(tokens=9, causal=True)
    with pytest.raises(ValueError, match=r"capacity_factor 1\.0 of examples of one token"):
        chosen.check_input(tokens=1, causal=False)


def test_every_so_many_blocks_has_experts() -> None:
    assert [MixtureConfig(every=2).has_experts(block) for block in range(4)] == [0, 1, 0, 1]


def test_room_is_rounded_up_but_not_by_rounding_errors() -> None:
    config = MixtureConfig(num_experts=2, top_k=2, capacity_factor=1.1)
    assert config.capacities(10)[9] == 9  # no more than there are tokens
    config = MixtureConfig(num_experts=4, top_k=1, capacity_factor=1.1)
    assert config.capacities(40).tolist()[:11] == [0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]
    assert config.capacities(40)[40] == 11
