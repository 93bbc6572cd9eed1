"""Requests that differ from an earlier one in the contents of their raw tensors only.

That is what a client sends that asks a model again and again. Protobuf writes fields in the order
of their numbers, so raw contents come last, and such a request has the very bytes of the earlier
one around contents of the same sizes. Whoever finds these bytes where they were knows the
message: what stands inside a field of bytes does not change how the others are read. All that was
found out of the earlier request then holds for this one, and only values remain to be checked.

Half of the time that a small request takes here would otherwise go into reading the same words.
"""

import math
from typing import NamedTuple

import numpy as np

from serving.core.model import ServedModel
from serving.core.request import Call, Inputs, Protocol
from serving.core.signature import DTYPES, TensorSpec
from serving.core.validation import check_values
from serving.protocols.over_grpc.answer_form import AnswerForm
from serving.protocols.over_grpc.infer_request import InferRequest, call_of
from serving.protocols.over_grpc.messages import (
    NotTakenApartError,
    raw_spans,
    read_infer_request,
)
from serving.protocols.parameters import RequestParameters

# Requests that are remembered: of so many sizes, and of each so many.
_MAX_SIZES = 512
_MAX_OF_A_SIZE = 4

# Of the bytes around the contents, so that what is remembered is bounded.
_MAX_WORDS = 1024


class _Tensor(NamedTuple):
    """A raw tensor of a request.

    Attributes:
        spec: Of the input.
        dtype: Of its elements.
        num_elements: Its number of them.
        offset: Where its own bytes begin.
        shape: In the request.
    """

    spec: TensorSpec
    dtype: np.dtype
    num_elements: int
    offset: int
    shape: tuple[int, ...]


class _Template(NamedTuple):
    """A request without the contents of its tensors, which were right for a model.

    Attributes:
        words: The bytes between the contents, and where each begins.
        tensors: In the order of the model's signature.
        model: The name that it asks for.
        version: The version, or "".
        parameters: Of the whole request.
        form: Of its answers, and the model itself.
    """

    words: tuple[tuple[bytes, int], ...]
    tensors: tuple[_Tensor, ...]
    model: str
    version: str
    parameters: RequestParameters
    form: AnswerForm


class RepeatedRequest:
    """A request that is known but for its contents. It is used as InferRequest is.

    Args:
        data: Its bytes.
        template: What is known.

    Attributes:
        form: Of its answer.
        id: It has none.
        read_anew: The same, read after all, for the model is another one than it was; or None.
    """

    __slots__ = ("_data", "_template", "form", "id", "read_anew")

    def __init__(self, data: bytes, template: _Template) -> None:
        self._data = data
        self._template = template
        self.form: AnswerForm | None = template.form
        self.id = ""
        self.read_anew: InferRequest | None = None

    def call(self, protocol: Protocol, request_id: str, client: str, waits_s: float) -> Call:
        """See `InferRequest.call`."""
        template, size_bytes = self._template, len(self._data)
        known = (template.model, template.version, template.parameters, size_bytes)
        return call_of(*known, protocol, request_id, client, waits_s)

    def inputs(self, model: ServedModel) -> Inputs:
        """See `InferRequest.inputs`."""
        template, data = self._template, self._data
        form = template.form
        if model is not form.model:  # another version came since
            self.read_anew = InferRequest(read_infer_request(data))
            inputs = self.read_anew.inputs(model)
            self.form = self.read_anew.form
            return inputs
        arrays = {}
        for spec, dtype, num_elements, offset, shape in template.tensors:
            elements = np.frombuffer(data, dtype, num_elements, offset)
            check_values(spec, elements)
            arrays[spec.name] = elements.reshape(shape)
        return Inputs(arrays, form.names)


class Templates:
    """The requests that are remembered. A client cannot make them take more than a few MiB."""

    def __init__(self) -> None:
        self._by_size: dict[int, list[_Template]] = {}

    def read(self, data: bytes) -> InferRequest | RepeatedRequest:
        """A request, read as far as it is not known.

        Raises:
            ServingError: INVALID or TOO_LARGE, as of `read_infer_request` and `InferRequest`.
        """
        return self.find(data) or InferRequest(read_infer_request(data))

    def find(self, data: bytes) -> RepeatedRequest | None:
        """A request that is like an earlier one; None: it is not."""
        for template in self._by_size.get(len(data), ()):
            for words, start in template.words:
                if not data.startswith(words, start):
                    break
            else:
                return RepeatedRequest(data, template)
        return None

    def form_of(self, data: bytes, request: InferRequest | RepeatedRequest) -> AnswerForm:
        """The form of the answer to a request whose inputs were read; the request is remembered.

        Args:
            data: Its bytes.
            request: The same, read.
        """
        form = request.form
        if form is None:
            raise AssertionError("the form is known once the inputs were read")
        read = request if isinstance(request, InferRequest) else request.read_anew
        if read is not None:
            self._learn(data, read, form)
        return form

    def _learn(self, data: bytes, request: InferRequest, form: AnswerForm) -> None:
        template = _template(data, request, form)
        if template is None:
            return
        of_size = self._by_size.pop(len(data), [])
        others = [known for known in of_size if known.words != template.words]
        self._by_size[len(data)] = [template, *others][:_MAX_OF_A_SIZE]
        if len(self._by_size) > _MAX_SIZES:
            self._by_size.pop(next(iter(self._by_size)))


def _template(data: bytes, request: InferRequest, form: AnswerForm) -> _Template | None:
    """What to remember of a request; None: it is none that is worth it."""
    message = request.message
    # An id is another one each time, and a BOOL has more to be checked than its value.
    if request.id or any(t.datatype == "BOOL" for t in message.inputs):
        return None
    try:
        spans = raw_spans(data)
    except NotTakenApartError:
        return None
    ends = [0, *[span.end for span in spans]]
    words = tuple([(data[e : s.content], e) for e, s in zip(ends, spans, strict=False)])
    if not spans or ends[-1] != len(data) or sum(len(w) for w, _ in words) > _MAX_WORDS:
        return None
    places = {tensor.name: index for index, tensor in enumerate(message.inputs)}
    tensors = []
    for spec in form.model.inputs:
        shape = tuple(message.inputs[places[spec.name]].shape)
        offset = spans[places[spec.name]].content
        tensors.append(_Tensor(spec, DTYPES[spec.datatype], math.prod(shape), offset, shape))
    return _Template(
        words, tuple(tensors), request.model, request.version, request.parameters, form
    )
