"""The JSON of requests and replies, as JSON Schema has it.

What a schema says of a request is what the readers check without knowing the model; whether its
tensors fit, the model's signature says.

Reference: https://json-schema.org/draft/2020-12.
"""

from typing import Any

from serving.core.catalog import State
from serving.core.signature import DTYPES
from serving.protocols.elements import BYTES
from serving.protocols.request_ids import MAX_ID_BYTES

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_BOOLEAN: Schema = {"type": "boolean"}
_WHOLE: Schema = {"type": "integer"}
_NUMBERS: Schema = {"type": "array", "description": "In one list, or nested as the shape says."}
_DATATYPE: Schema = {"type": "string", "enum": sorted(DTYPES)}
_SHAPE: Schema = {"type": "array", "items": _WHOLE, "description": "The batch comes first."}


def _object(
    properties: dict[str, Schema], required: tuple[str, ...] | None = None, **facts: Any
) -> Schema:
    """An object with these keys and no others; all of them, unless `required` says which."""
    needed = list(properties if required is None else required)
    schema = {"type": "object", "properties": properties, "additionalProperties": False, **facts}
    return schema | {"required": needed} if needed else schema


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _described(schema: Schema, text: str) -> Schema:
    return {**schema, "description": text}


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_INPUT_PARAMETERS = _object(
    {
        "binary_data_size": {
            "type": "integer",
            "minimum": 0,
            "description": "Bytes of this tensor after the JSON, instead of `data`.",
        }
    },
    (),
)
_OUTPUT_PARAMETERS = _object(
    {
        "binary_data": _described(_BOOLEAN, "Whether it comes as bytes after the JSON."),
        "classification": {
            "type": "integer",
            "minimum": 1,
            "description": 'Only so many of the largest values, each as "value:index:label".',
        },
    },
    (),
)
_REQUEST_PARAMETERS = _object(
    {
        "priority": {
            "type": "integer",
            "minimum": 0,
            "maximum": 2**32 - 1,
            "description": "0 is usual, 1 the most urgent, larger numbers less so.",
        },
        "timeout": {
            "type": "integer",
            "minimum": 0,
            "maximum": 2**63 - 1,
            "description": "Microseconds that the caller waits; 0: it does not say.",
        },
        "binary_data_output": _described(
            _BOOLEAN, "Whether outputs that do not say otherwise come as bytes after the JSON."
        ),
    },
    (),
)
_METADATA_TENSOR = _object(
    {
        "name": _TEXT,
        "datatype": _DATATYPE,
        "shape": _described(_SHAPE, "The batch comes first. -1: any size."),
    }
)
_OPTIONAL_INPUT_KEYS = {"data": _NUMBERS, "parameters": _nullable(_INPUT_PARAMETERS)}
_OPTIONAL_ID = _nullable({"type": "string", "maxLength": MAX_ID_BYTES})

_INFERENCE_REQUEST = _object(
    {
        "id": _described(_OPTIONAL_ID, "Is sent back."),
        "model_name": _described({}, "Not heeded: the path says which model is meant."),
        "model_version": _described({}, "Not heeded: the path says which version is meant."),
        "parameters": _nullable(_REQUEST_PARAMETERS),
        "inputs": _list(
            _object(
                {"name": _TEXT, "shape": _SHAPE, "datatype": _TEXT, **_OPTIONAL_INPUT_KEYS},
                ("name", "shape", "datatype"),
            )
        ),
        "outputs": _nullable(
            _list(_object({"name": _TEXT, "parameters": _nullable(_OUTPUT_PARAMETERS)}, ("name",)))
        ),
    },
    ("inputs",),
)
_INFERENCE_RESPONSE = _object(
    {
        "id": _described(_TEXT, "That of the request, if it has one."),
        "model_name": _TEXT,
        "model_version": _TEXT,
        "outputs": _list(
            _object(
                {
                    "name": _TEXT,
                    "datatype": {"type": "string", "enum": sorted([*DTYPES, BYTES])},
                    "shape": _SHAPE,
                    "data": _described(_NUMBERS, "All elements, row after row."),
                    "parameters": _object({"binary_data_size": _WHOLE}),
                },
                ("name", "datatype", "shape"),
            )
        ),
    },
    ("model_name", "model_version", "outputs"),
)
_PREDICT_REQUEST = _object(
    {
        "image": _described(_TEXT, "A PNG or JPEG in base64, with or without a data URL's head."),
        "inputs": {
            "description": "Numbers of one example or of a batch, nested as the signature says; an "
            "object by the names of the inputs where there are several."
        },
        "model": _described(_nullable(_TEXT), "By default the first one that is served."),
        "version": _described(_nullable(_TEXT), "By default the one that the name stands for."),
        "top_k": {"type": "integer", "minimum": 1, "description": "How many classes are told."},
    },
    (),
    oneOf=[{"required": ["image"]}, {"required": ["inputs"]}],
)
_PROBABILITY: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_PREDICTION = _object(
    {
        "predictions": _list(
            _object(
                {
                    "class": _described(_TEXT, "The most probable one, by name or by number."),
                    "probability": _described(_PROBABILITY, "Of that class."),
                    "classes": _described(_list(_TEXT), "The `top_k` most probable ones."),
                    "probabilities": _described(_list(_PROBABILITY), "Of each of these."),
                }
            )
        ),
        "outputs": _described(
            {"type": "object"},
            "Of what is no classifier: nested lists by the names of the outputs.",
        ),
        "image": _described(
            _object({"width": _WHOLE, "height": _WHOLE, "inverted": _BOOLEAN}),
            "What was read of the image, if there was one.",
        ),
        "model": _TEXT,
        "version": _TEXT,
        "request_id": _TEXT,
        "time_ms": {"type": "number", "minimum": 0},
    },
    ("model", "version", "request_id", "time_ms"),
)
_MODEL_METADATA = _object(
    {
        "name": _TEXT,
        "versions": _list(_TEXT),
        "platform": _TEXT,
        "inputs": _list(_METADATA_TENSOR),
        "outputs": _list(_METADATA_TENSOR),
        "properties": {"type": "object", "additionalProperties": _TEXT},
    }
)
_INDEX_ENTRY = _object(
    {
        "name": _TEXT,
        "version": _TEXT,
        "state": {"type": "string", "enum": [state.value for state in State]},
        "reason": _described(_TEXT, "Why it is not READY, or empty."),
    }
)
_LOAD_PARAMETERS = _described(_nullable(_object({}, ())), "There are none.")
_UNLOAD_PARAMETERS = _nullable(
    _object({"unload_dependents": _described(_BOOLEAN, "No model here depends on another.")}, ())
)

SCHEMAS: dict[str, Schema] = {
    "Error": _object({"error": _described(_TEXT, "What was wrong, and what is accepted.")}),
    "InferenceRequest": _INFERENCE_REQUEST,
    "InferenceResponse": _INFERENCE_RESPONSE,
    "Live": _object({"live": {"const": True}}),
    "ModelLoadRequest": _object({"parameters": _LOAD_PARAMETERS}, ()),
    "ModelMetadata": _MODEL_METADATA,
    "ModelReady": _object({"name": _TEXT, "ready": {"const": True}}),
    "ModelUnloadRequest": _object({"parameters": _UNLOAD_PARAMETERS}, ()),
    "Nothing": _object({}, ()),
    "OpenApi": {"type": "object"},
    "PredictRequest": _PREDICT_REQUEST,
    "Prediction": _PREDICTION,
    "Ready": _object({"ready": {"const": True}}),
    "RepositoryIndex": _list(_INDEX_ENTRY),
    "RepositoryIndexRequest": _object({"ready": _BOOLEAN}, ()),
    "ServerMetadata": _object({"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}),
}
