"""The specification of quantization against independent oracles.

ml_dtypes' own casts to float8, numpy's rounding of integers, bounds in float64, and statistics.
"""

import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kernels.quantize import contract, reference
from kernels.quantize.contract import FORMATS, Codec, Format, Layout

FLOAT_FORMATS = [f for f in FORMATS if f.mantissa_bits]

# By chance one number in a million is farther from its mean; seeds are fixed.
SIGMAS = 5

# A scale and its inverse are each off by half a unit in the last place of float32, and so is each
# product: far less than what a step is rounded by.
FLOAT32_SLACK = 2.0**-21

FLOAT32_MAX = np.finfo(np.float32).max


def _values(size: int = 5000, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(size) * np.exp2(rng.integers(-8, 8, size))).astype(np.float32)


def _round_trip(
    x: NDArray[np.float32], codec: Codec, **noise: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Returns what is read back, the new residual of an old one of zeros, and scales [size]."""
    layout = Layout(x.size, 1, x.size)
    done = reference.quantize(x, codec, layout, residual=np.zeros_like(x), **noise)
    assert done.residual is not None
    _, scales = reference.unpack(done.payload, codec, x.size)
    back = reference.dequantize(done.payload, codec, layout)
    return back, done.residual, np.repeat(scales[0], codec.block_size)[: x.size]


@pytest.mark.parametrize("format", FLOAT_FORMATS, ids=lambda f: f.name)
def test_decodes_what_other_libraries_decode(format: Format) -> None:
    codes = np.arange(256, dtype=np.uint8)
    theirs = codes.view(getattr(ml_dtypes, format.name)).astype(np.float32)
    torchs = torch.from_numpy(codes).view(getattr(torch, format.name)).float().numpy()
    finite = np.isfinite(theirs)
    np.testing.assert_array_equal(reference.decode(codes, format)[finite], theirs[finite])
    np.testing.assert_array_equal(torchs[finite], theirs[finite])
    assert theirs[finite].max() == format.max_value


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
def test_rounds_as_other_libraries_do(format: Format) -> None:
    # With a largest magnitude that is the largest value, the scale is 1 and so nothing but the
    # rounding is left.
    rng = np.random.default_rng(0)
    spread = rng.uniform(-1, 1, 4096) * 2.0 ** rng.integers(-20, 1, 4096)
    x = (format.max_value * spread).astype(np.float32)
    x[0] = format.max_value
    # And ties: halfway between all neighbours among the codes.
    values = np.unique(reference.decode(np.arange(256, dtype=np.uint8), format))
    values = values[np.abs(values) <= format.max_value]
    ties = (values[1:] / 2 + values[:-1] / 2).astype(np.float32)
    x[1 : 1 + ties.size] = ties
    codec = contract.codec(format.name, block_size=4096)
    payload = reference.quantize(x, codec, Layout(4096, 1, 4096)).payload
    codes, scales = reference.unpack(payload, codec, 4096)
    assert scales[0, 0] == 1
    if format.mantissa_bits:
        want = x.astype(getattr(ml_dtypes, format.name)).astype(np.float32)
        torchs = torch.from_numpy(x).to(getattr(torch, format.name)).float().numpy()
        np.testing.assert_array_equal(torchs, want)
    else:
        want = np.rint(x)
    np.testing.assert_array_equal(reference.decode(codes, format).ravel(), want)


@pytest.mark.parametrize("block_size", contract.BLOCK_SIZES)
def test_int8_is_off_by_half_a_step(block_size: int) -> None:
    x = _values()
    back, _, scales = _round_trip(x, contract.codec("int8", block_size=block_size))
    error = np.abs(back.astype(np.float64) - x)
    assert np.all(error <= scales.astype(np.float64) * (0.5 + 127 * FLOAT32_SLACK))


@pytest.mark.parametrize("format", FLOAT_FORMATS, ids=lambda f: f.name)
def test_float8_is_off_by_half_a_unit(format: Format) -> None:
    x = _values()
    back, _, scales = _round_trip(x, contract.codec(format.name))
    wide = scales.astype(np.float64)
    smallest_step = 2.0 ** (format.min_exponent - format.mantissa_bits)
    bound = np.maximum(np.abs(x) * 2.0 ** -(format.mantissa_bits + 1), wide * smallest_step / 2)
    assert np.all(np.abs(back - x.astype(np.float64)) <= bound * (1 + 2**-10))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("format", contract.FORMAT_NAMES)
def test_nothing_is_lost_between_codes_and_residual(format: str, seed: int) -> None:
    x = _values(100_000, seed)
    back, residual, _ = _round_trip(x, contract.codec(format))
    np.testing.assert_array_equal(back.astype(np.float64) + residual, x.astype(np.float64))


@pytest.mark.parametrize("format", contract.FORMAT_NAMES)
def test_error_feedback_sends_everything_in_the_end(format: str) -> None:
    # The sum of what is sent differs from the sum of the gradients by the last residual only.
    codec, layout = contract.codec(format), Layout(1000, 1, 1000)
    residual = np.zeros(1000, np.float32)
    sent, given = np.zeros(1000), np.zeros(1000)
    for step in range(50):
        x = _values(1000, step)
        payload, new = reference.quantize(x, codec, layout, residual=residual)
        assert new is not None
        sent += reference.dequantize(payload, codec, layout)
        given += x
        residual = new
    largest = np.abs(given).max()
    np.testing.assert_allclose(sent + residual, given, rtol=0, atol=50 * largest * 2.0**-23)
    assert np.abs(sent - given).max() < 0.3 * largest


@pytest.mark.parametrize("format", contract.FORMAT_NAMES)
def test_stochastic_rounding_is_unbiased(format: str) -> None:
    codec = contract.codec(format, block_size=64, rounding="stochastic")
    x, copies = _values(64), 100
    # Numbers differ by seed and by index.
    backs = [_round_trip(np.tile(x, copies), codec, seed=seed)[0] for seed in range(20)]
    draws = np.concatenate(backs).reshape(-1, x.size).astype(np.float64)
    mean, deviation = np.mean(draws, axis=0), np.std(draws, axis=0) / np.sqrt(len(draws))
    slack = np.abs(x).max() * FLOAT32_SLACK
    assert np.all(np.abs(mean - x) <= SIGMAS * deviation + slack)
    # Both neighbours, and nothing else.
    assert max(len(np.unique(column)) for column in draws.T) == 2


def test_uniform_numbers_are_uniform_and_independent() -> None:
    count, bins = 2**16, 64
    drawn = reference.uniform(7, np.arange(count, dtype=np.uint64)).astype(np.float64)
    assert drawn.min() >= 0 and drawn.max() < 1
    histogram = np.histogram(drawn, bins, (0, 1))[0]
    expected = count / bins
    chi_square = np.sum((histogram - expected) ** 2 / expected)
    freedom = bins - 1
    assert abs(chi_square - freedom) < SIGMAS * np.sqrt(2 * freedom)
    others = {
        "next index": drawn[1:],
        "next seed": reference.uniform(8, np.arange(count, dtype=np.uint64)),
        "high half": reference.uniform(7, np.arange(count, dtype=np.uint64) + np.uint64(2**32)),
    }
    for name, other in others.items():
        correlation = np.corrcoef(drawn[: other.size], other)[0, 1]
        assert abs(correlation) < SIGMAS / np.sqrt(count), name


@pytest.mark.parametrize("format", contract.FORMAT_NAMES)
def test_rounding_does_not_depend_on_how_a_vector_is_cut(format: str) -> None:
    codec = contract.codec(format, block_size=64, rounding="stochastic")
    x, start = _values(1280), 2**32 - 640
    whole = reference.quantize(x, codec, Layout(1280, 1, 1280), seed=3, offset=start)
    codes, _ = reference.unpack(whole.payload, codec, 1280)
    for size, num_chunks in ((1280, 5), (640, 2), (64, 1)):
        for begin in range(0, 1280, size):
            chunk_size = size // num_chunks
            part = reference.quantize(
                x[begin : begin + size],
                codec,
                Layout(size, num_chunks, chunk_size),
                seed=3,
                offset=start + begin,
            )
            got, _ = reference.unpack(part.payload, codec, chunk_size)
            np.testing.assert_array_equal(got.ravel(), codes.ravel()[begin : begin + size])


@pytest.mark.parametrize("rounding", contract.ROUNDINGS)
@pytest.mark.parametrize("format", contract.FORMAT_NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_seen(bad: float, format: str, rounding: str) -> None:
    codec = contract.codec(format, block_size=64, rounding=rounding)
    x = _values(192)
    x[70] = bad
    old = np.full(192, 0.125, np.float32)
    layout = Layout(192, 1, 192)
    payload, residual = reference.quantize(x, codec, layout, residual=old)
    assert residual is not None
    back = reference.dequantize(payload, codec, layout)
    assert np.isnan(back[64:128]).all()
    assert np.isfinite(back[:64]).all() and np.isfinite(back[128:]).all()
    np.testing.assert_array_equal(residual[64:128], old[64:128])
    assert np.isfinite(residual).all()
    total = reference.reduce(np.concatenate([payload, payload]), codec, 192)
    assert np.isnan(total[64:128]).all() and np.isfinite(total[:64]).all()


@pytest.mark.parametrize("rounding", contract.ROUNDINGS)
@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize(
    "magnitude",
    [
        *(2.0**e for e in (-149, -142, -136, -130, -126, -119, -112, -101, -100, 126, 127)),
        FLOAT32_MAX,
        np.nextafter(FLOAT32_MAX, np.float32(0)),
    ],
)
def test_a_block_of_any_finite_magnitude_is_off_by_a_step(
    magnitude: float, format: Format, rounding: str
) -> None:
    x = np.linspace(-1, 1, 4096).astype(np.float32) * np.float32(magnitude)
    back, residual, scales = _round_trip(
        x, contract.codec(format.name, block_size=4096, rounding=rounding), seed=1
    )
    wide = x.astype(np.float64)
    scale = max(float(np.abs(wide).max()) / format.max_value, 2.0**-126)
    np.testing.assert_allclose(scales.astype(np.float64), scale, rtol=2.0**-22)
    # A float's step is a share of the value's power of two, an integer's the scale.
    smallest = 2.0 ** (format.min_exponent - format.mantissa_bits)
    relative = np.abs(wide) * 2.0**-format.mantissa_bits if format.mantissa_bits else 0.0
    step = np.maximum(relative, scale * smallest)
    # A product is a float32, which is a multiple of 2^-149.
    slack = (1 + 2.0**-10) * step + 2.0**-149
    error = np.abs(back.astype(np.float64) - wide)
    assert np.all(error <= (slack / 2 if rounding == "nearest" else slack))
    if rounding == "nearest":
        np.testing.assert_array_equal(back.astype(np.float64) + residual, wide)


@pytest.mark.parametrize(
    ("format", "smallest"), [("int8", -126), ("float8_e4m3fn", -135), ("float8_e5m2", -142)]
)
def test_the_least_that_does_not_become_zero(format: str, smallest: int) -> None:
    codec = contract.codec(format, block_size=64)
    for magnitude, want in (
        (2.0**smallest, 2.0**smallest),
        (2.0 ** (smallest - 1), 0.0),
        (1.25 * 2.0 ** (smallest - 1), 2.0**smallest),
        (2.0**-149, 0.0),
    ):
        x = np.full(64, -magnitude, np.float32)
        back, residual, _ = _round_trip(x, codec)
        np.testing.assert_array_equal(back, -np.float32(want))
        np.testing.assert_array_equal(residual, x - back)


@pytest.mark.parametrize("format", contract.FORMAT_NAMES)
def test_a_block_of_zeros_has_no_scale(format: str) -> None:
    back, residual, scales = _round_trip(np.full(64, -0.0, np.float32), contract.codec(format))
    assert not back.any() and not scales.any() and not residual.any()


@pytest.mark.parametrize("format", contract.FORMAT_NAMES)
def test_a_sum_beyond_float32_is_seen(format: str) -> None:
    codec, layout = contract.codec(format, block_size=64), Layout(128, 1, 128)
    x = np.repeat([FLOAT32_MAX, np.float32(1)], 64)
    payload = reference.quantize(x, codec, layout).payload
    payloads, old = np.concatenate([payload, payload]), np.full(128, 0.125, np.float32)
    with np.errstate(over="ignore"):
        total = reference.reduce(payloads, codec, 128, multiplier=0.5)
        again, residual = reference.reduce_quantize(payloads, codec, 128, residual=old)
    assert residual is not None
    assert np.isposinf(total[:64]).all() and np.isfinite(total[64:]).all()
    back = reference.dequantize(again, codec, layout)
    assert np.isnan(back[:64]).all() and np.isfinite(back[64:]).all()
    np.testing.assert_array_equal(residual[:64], old[:64])


@pytest.mark.parametrize("format", contract.FORMAT_NAMES)
def test_zeros_are_zeros_beside_other_values(format: str) -> None:
    x = np.zeros(64, np.float32)
    x[5] = -3.0
    back, residual, _ = _round_trip(x, contract.codec(format, block_size=64))
    np.testing.assert_allclose(back, x, rtol=2.0**-22)
    assert not back[x == 0].any() and not residual[x == 0].any()


def test_payload_sizes() -> None:
    codec = contract.codec("int8", block_size=256)
    assert codec.chunk_size(1000, 3) == 512
    assert codec.payload_bytes(0) == 0
    assert codec.payload_bytes(1) == 256 + 16
    assert codec.payload_bytes(1024) == 1024 + 16
    assert codec.payload_bytes(1025) == 1280 + 32
    x = _values(1000)
    payload = reference.quantize(x, codec, Layout(1000, 4, 300)).payload
    assert payload.shape == (4, 512 + 16)
    # Beyond the scales there are zeros, and beyond the end of the values too.
    assert not payload[:, 512 + 8 :].any() and not payload[3, 100:512].any()
