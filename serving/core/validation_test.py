"""What fits a model's signature is read, and anything else is refused by name, unread."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from serving.core.errors import Kind, ServingError
from serving.core.model import ServedModel
from serving.core.signature import DTYPES, TensorSpec
from serving.core.validation import (
    TensorHeader,
    check_arrays,
    check_headers,
    is_finite,
    read_inputs,
    wanted_outputs,
)

IMAGE = TensorSpec("image", "FP32", (-1, 2, 3))
MASK = TensorSpec("mask", "UINT8", (-1,))
TOKENS = TensorSpec("tokens", "INT32", (-1, 4), limit=256, padding=-1)
SIGNATURE = "expected inputs: image FP32 [-1, 2, 3], mask UINT8 [-1]"

IMAGE_HEADER = TensorHeader("image", "FP32", (2, 2, 3))
MASK_HEADER = TensorHeader("mask", "UINT8", (2,))


def model(*inputs: TensorSpec) -> ServedModel:
    return ServedModel(
        name="digits",
        version="1.2.3",
        platform="flax_safetensors",
        directory=Path("unused"),
        digest="unused",
        inputs=inputs,
        outputs=(TensorSpec("logits", "FP32", (-1, 10)), TensorSpec("embedding", "FP32", (-1, 4))),
        max_batch_size=8,
    )


def ones(headers: list[TensorHeader]) -> list[np.ndarray]:
    return [np.ones(int(np.prod(h.shape)), DTYPES[h.datatype]) for h in headers]


@pytest.mark.parametrize("headers", [[IMAGE_HEADER, MASK_HEADER], [MASK_HEADER, IMAGE_HEADER]])
def test_inputs_are_read_in_any_order(headers: list[TensorHeader]) -> None:
    elements = ones(headers)
    arrays = read_inputs(model(IMAGE, MASK), headers, lambda index, count: elements[index][:count])
    assert list(arrays) == ["image", "mask"]
    assert {name: array.shape for name, array in arrays.items()} == {
        "image": (2, 2, 3),
        "mask": (2,),
    }
    assert np.shares_memory(arrays["image"], elements[headers.index(IMAGE_HEADER)])


def never(index: int, count: int) -> np.ndarray:
    raise AssertionError("a tensor was read although a header is wrong")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ([], f"missing input 'image'; {SIGNATURE}"),
        ([IMAGE_HEADER], f"missing input 'mask'; {SIGNATURE}"),
        ([IMAGE_HEADER, MASK_HEADER, MASK_HEADER], f"input 'mask' occurs twice; {SIGNATURE}"),
        ([IMAGE_HEADER, IMAGE_HEADER], f"input 'image' occurs twice; {SIGNATURE}"),
        (
            [IMAGE_HEADER, MASK_HEADER, TensorHeader("more", "FP32", (2,))],
            f"unexpected input 'more'; {SIGNATURE}",
        ),
        (
            [IMAGE_HEADER, TensorHeader("m" * 1000, "UINT8", (2,))],
            f"unexpected input '{'m' * 64}'...; {SIGNATURE}",
        ),
        (
            [IMAGE_HEADER._replace(datatype="FP64"), MASK_HEADER],
            "input 'image' has datatype 'FP64'; expected FP32",
        ),
        (
            [IMAGE_HEADER._replace(datatype="f32"), MASK_HEADER],
            "input 'image' has datatype 'f32'; expected FP32",
        ),
        (
            [IMAGE_HEADER._replace(shape=(2, 3, 2)), MASK_HEADER],
            "input 'image' has shape [2, 3, 2]; expected [-1, 2, 3]",
        ),
        (
            [IMAGE_HEADER._replace(shape=(2, 6)), MASK_HEADER],
            "input 'image' has shape [2, 6]; expected [-1, 2, 3]",
        ),
        (
            [IMAGE_HEADER._replace(shape=()), MASK_HEADER],
            "input 'image' has shape []; expected [-1, 2, 3]",
        ),
        (
            [IMAGE_HEADER._replace(shape=(1,) * 1000), MASK_HEADER],
            "input 'image' has shape [1, 1, 1, 1, 1, 1, 1, 1, ...] of 1000 dimensions; expected "
            "[-1, 2, 3]",
        ),
        (
            [IMAGE_HEADER._replace(shape=(-1, -2, 3)), MASK_HEADER],
            "input 'image' has shape [-1, -2, 3]; expected [-1, 2, 3]",
        ),
        (
            [IMAGE_HEADER._replace(shape=(0, 2, 3)), MASK_HEADER],
            "input 'image' has a batch of 0; expected 1 to 8",
        ),
        (
            [IMAGE_HEADER._replace(shape=(-1, 2, 3)), MASK_HEADER],
            "input 'image' has a batch of -1; expected 1 to 8",
        ),
        (
            [IMAGE_HEADER._replace(shape=(9, 2, 3)), MASK_HEADER],
            "input 'image' has a batch of 9; expected 1 to 8",
        ),
        (
            [IMAGE_HEADER._replace(shape=(2**63 - 1, 2, 3)), MASK_HEADER],
            "input 'image' has a batch of 9223372036854775807; expected 1 to 8",
        ),
        (
            [IMAGE_HEADER, MASK_HEADER._replace(shape=(1,))],
            "inputs differ in their batch: 2 in 'image', 1 in 'mask'; expected the same in all",
        ),
    ],
)
def test_headers_that_do_not_fit_are_refused_unread(
    headers: list[TensorHeader], message: str
) -> None:
    with pytest.raises(ServingError) as error:
        read_inputs(model(IMAGE, MASK), headers, never)
    assert error.value.message == message
    assert error.value.kind is Kind.INVALID


@pytest.mark.parametrize("size", [-1, 0])
def test_a_dimension_of_any_size_has_one(size: int) -> None:
    check_headers(model(TensorSpec("x", "FP32", (-1, -1))), [TensorHeader("x", "FP32", (1, 7))])
    with pytest.raises(ServingError, match=r"has shape \[1, .*\]; expected \[-1, -1\]"):
        check_headers(
            model(TensorSpec("x", "FP32", (-1, -1))), [TensorHeader("x", "FP32", (1, size))]
        )


@pytest.mark.parametrize("length", [1, 3, 4])
def test_sequences_may_be_shorter(length: int) -> None:
    tokens = np.arange(2 * length, dtype=np.int32).reshape(2, length)
    arrays = check_arrays(model(TOKENS), {"tokens": tokens})
    np.testing.assert_array_equal(arrays["tokens"], tokens)


@pytest.mark.parametrize("length", [-1, 0, 5])
def test_sequences_may_not_be_longer_or_empty(length: int) -> None:
    with pytest.raises(ServingError) as error:
        check_headers(model(TOKENS), [TensorHeader("tokens", "INT32", (1, length))])
    assert error.value.message == (
        f"input 'tokens' has shape [1, {length}]; expected [-1, 4], where dimension 1 may be "
        "shorter"
    )


@pytest.mark.parametrize(("token", "accepted"), [(-1, True), (255, True), (256, False)])
def test_integers_are_below_the_limit(token: int, accepted: bool) -> None:
    tokens = {"tokens": np.array([[0, token, 1]], np.int32)}
    if accepted:
        check_arrays(model(TOKENS), tokens)
        return
    with pytest.raises(ServingError) as error:
        check_arrays(model(TOKENS), tokens)
    assert error.value.message == ("input 'tokens' has the value 256; expected values below 256")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7])
@pytest.mark.filterwarnings("error")
def test_values_that_are_no_numbers_are_found(dtype: type, value: float, place: int) -> None:
    array = np.ones(8, dtype)
    assert is_finite(array)
    array[place] = value
    assert not is_finite(array)


def test_large_finite_values_are_numbers() -> None:
    assert is_finite(np.full(1000, np.finfo(np.float32).max))


def test_values_that_are_no_numbers_are_refused() -> None:
    image = np.ones((1, 2, 3), np.float32)
    image[0, 1, 2] = np.nan
    with pytest.raises(ServingError) as error:
        check_arrays(model(IMAGE), {"image": image})
    assert error.value.message == ("input 'image' has NaN or infinite values; expected finite ones")


@pytest.mark.parametrize("names", [["logits"], ["embedding", "logits"]])
def test_outputs_are_those_asked_for_in_that_order(names: list[str]) -> None:
    assert [spec.name for spec in wanted_outputs(model(IMAGE), names)] == names


def test_all_outputs_unless_one_is_named() -> None:
    assert wanted_outputs(model(IMAGE), []) == model(IMAGE).outputs


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["boxes"], "unknown output 'boxes'; expected outputs: logits FP32 [-1, 10], embedding"),
        (["logits", "logits"], "output 'logits' is requested twice; expected outputs: logits"),
    ],
)
def test_other_outputs_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ServingError) as error:
        wanted_outputs(model(IMAGE), names)
    assert error.value.message.startswith(message)
    assert error.value.kind is Kind.INVALID
