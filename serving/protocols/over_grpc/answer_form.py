"""An answer in gRPC's form, joined once into the bytes that are sent.

All of a raw answer but its id and its contents is the same for every answer of the same shapes, so
it is made once. By the rules of the wire format, fields may follow in any order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from inference import grpc_service_pb2 as oip

from serving.core.errors import ServingError
from serving.core.model import ServedModel
from serving.core.request import Answer
from serving.core.signature import DTYPES, TensorSpec
from serving.protocols.classification import classify
from serving.protocols.elements import BYTES, CONTENTS_FIELDS, Bytes

_LENGTH = 2  # the wire type of fields that have a length


def _tag(number: int) -> bytes:
    return bytes([number << 3 | _LENGTH])


_ID = _tag(oip.ModelInferResponse.ID_FIELD_NUMBER)
_RAW = _tag(oip.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER)
_INFER_RESPONSE = _tag(oip.ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER)


class WantedOutput(NamedTuple):
    """An output of an answer.

    Attributes:
        spec: Of the model's signature.
        classification: How many of its largest values, as strings; 0: the output as it is.
    """

    spec: TensorSpec
    classification: int = 0

    @property
    def datatype(self) -> str:
        """What it has on the wire."""
        return BYTES if self.classification else self.spec.datatype


class AnswerForm:
    """What the answer to a request looks like.

    Args:
        model: Which answers.
        outputs: What is wanted.
        raw: The answer is raw, as the request was.

    Attributes:
        model: Which answers.
        names: Of the outputs.
    """

    __slots__ = ("_classified", "_heads", "_outputs", "_raw", "_shapes", "model", "names")

    def __init__(self, model: ServedModel, outputs: Sequence[WantedOutput], raw: bool) -> None:
        self.model = model
        self.names = tuple([output.spec.name for output in outputs])
        self._outputs = outputs
        self._raw = raw
        self._classified = any(output.classification for output in outputs)
        # Of the last answer the shapes, and what precedes each of its contents.
        self._shapes: object = None
        self._heads: list[bytes] = []

    def reply(self, message_id: str, answer: Answer) -> bytes:
        """A ModelInferResponse, as bytes.

        Args:
            message_id: The caller's; repeated.
            answer: To the request.

        Raises:
            ValueError: The model's output contradicts its own signature.
        """
        return b"".join(self._parts(message_id, answer))

    def stream_reply(self, message_id: str, answer: Answer) -> bytes:
        """A ModelStreamInferResponse that holds the same, as bytes."""
        parts = self._parts(message_id, answer)
        size = sum([_num_bytes(part) for part in parts])
        return b"".join([_INFER_RESPONSE, _varint(size), *parts])

    def _parts(self, message_id: str, answer: Answer) -> list[Bytes]:
        """What follows each other in the bytes of a ModelInferResponse."""
        arrays = [answer.outputs[name] for name in self.names]
        if self._classified:
            arrays = self._classes(arrays)
        parts: list[Bytes] = self._raw_parts(arrays) if self._raw else [self._typed(arrays)]
        if message_id:
            encoded = message_id.encode()
            parts += (_ID, _varint(len(encoded)), encoded)
        return parts

    def _raw_parts(self, arrays: Sequence[np.ndarray]) -> list[Bytes]:
        contents = [_content(array) for array in arrays]
        shapes = [(array.dtype, array.shape) for array in arrays]
        # The contents of strings have sizes that their shapes do not tell.
        if shapes != self._shapes or self._classified:
            heads = [_RAW + _varint(_num_bytes(content)) for content in contents]
            heads[0] = self._described(arrays).SerializeToString() + heads[0]
            self._heads, self._shapes = heads, shapes
        if len(contents) == 1:
            return [self._heads[0], contents[0]]
        return [part for pair in zip(self._heads, contents, strict=True) for part in pair]

    def _typed(self, arrays: Sequence[np.ndarray]) -> bytes:
        response = self._described(arrays)
        for tensor, array in zip(response.outputs, arrays, strict=True):
            values = getattr(tensor.contents, CONTENTS_FIELDS[tensor.datatype])
            values.extend(array.ravel().tolist())
        return response.SerializeToString()

    def _classes(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [
            classify(array, output.classification, self.model.class_names)
            if output.classification
            else array
            for output, array in zip(self._outputs, arrays, strict=True)
        ]

    def _described(self, arrays: Sequence[np.ndarray]) -> oip.ModelInferResponse:
        """The answer without its contents."""
        model = self.model
        response = oip.ModelInferResponse(model_name=model.name, model_version=model.version)
        for output, array in zip(self._outputs, arrays, strict=True):
            spec = output.spec
            if not output.classification and not _fits(array, spec):
                # Of a model that was verified and warmed: the fault is ours, not the caller's.
                raise ValueError(
                    f"the model made {array.dtype} {list(array.shape)}; its signature says {spec}"
                )
            response.outputs.add(name=spec.name, datatype=output.datatype, shape=array.shape)
        return response


def stream_error(message_id: str, error: ServingError) -> bytes:
    """A ModelStreamInferResponse that says why a request was not answered, as bytes."""
    response = oip.ModelStreamInferResponse(error_message=error.message)
    response.infer_response.id = message_id
    return response.SerializeToString()


def _fits(array: np.ndarray, spec: TensorSpec) -> bool:
    if array.dtype != DTYPES[spec.datatype] or array.ndim != len(spec.shape):
        return False
    return all(
        expected in (-1, size) or (spec.follows and dimension == 1 and size < expected)
        for dimension, (size, expected) in enumerate(zip(array.shape, spec.shape, strict=True))
    )


def _content(array: np.ndarray) -> Bytes:
    """The bytes of a raw tensor, those of the array itself where it has them in order."""
    kind = array.dtype.kind
    if kind == "O":
        return b"".join([len(s).to_bytes(4, "little") + s for s in array.ravel().tolist()])
    if kind == "V":  # bfloat16, of which Python's buffers know nothing
        array = array.view(np.uint16)
    return array.data if array.flags.c_contiguous else array.tobytes()


def _varint(value: int) -> bytes:
    """A length in protobuf's variable-size form."""
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _num_bytes(content: Bytes) -> int:
    """The size of a content; the length of an array's memory counts its rows instead."""
    return len(content) if isinstance(content, bytes) else content.nbytes
