"""The wire format equals the public Open Inference Protocol, field by field.

The table is transcribed from specification/protocol/open_inference_grpc.proto of
https://github.com/kserve/open-inference-protocol, and the extensions from docs/protocol and
protobuf/grpc_service.proto of Triton, not from our own file.
"""

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from inference import grpc_service_pb2, grpc_service_pb2_grpc

SPECIFICATION = """
ServerLiveRequest
ServerLiveResponse
    1 bool live
ServerReadyRequest
ServerReadyResponse
    1 bool ready
ModelReadyRequest
    1 string name
    2 string version
ModelReadyResponse
    1 bool ready
ServerMetadataRequest
ServerMetadataResponse
    1 string name
    2 string version
    3 repeated string extensions
ModelMetadataRequest
    1 string name
    2 string version
ModelMetadataResponse
    1 string name
    2 repeated string versions
    3 string platform
    4 repeated ModelMetadataResponse.TensorMetadata inputs
    5 repeated ModelMetadataResponse.TensorMetadata outputs
    6 map<string, string> properties
ModelMetadataResponse.TensorMetadata
    1 string name
    2 string datatype
    3 repeated int64 shape
ModelInferRequest
    1 string model_name
    2 string model_version
    3 string id
    4 map<string, InferParameter> parameters
    5 repeated ModelInferRequest.InferInputTensor inputs
    6 repeated ModelInferRequest.InferRequestedOutputTensor outputs
    7 repeated bytes raw_input_contents
ModelInferRequest.InferInputTensor
    1 string name
    2 string datatype
    3 repeated int64 shape
    4 map<string, InferParameter> parameters
    5 InferTensorContents contents
ModelInferRequest.InferRequestedOutputTensor
    1 string name
    2 map<string, InferParameter> parameters
ModelInferResponse
    1 string model_name
    2 string model_version
    3 string id
    4 map<string, InferParameter> parameters
    5 repeated ModelInferResponse.InferOutputTensor outputs
    6 repeated bytes raw_output_contents
ModelInferResponse.InferOutputTensor
    1 string name
    2 string datatype
    3 repeated int64 shape
    4 map<string, InferParameter> parameters
    5 InferTensorContents contents
InferParameter
    1 oneof parameter_choice bool bool_param
    2 oneof parameter_choice int64 int64_param
    3 oneof parameter_choice string string_param
    4 oneof parameter_choice double double_param
    5 oneof parameter_choice uint64 uint64_param
InferTensorContents
    1 repeated bool bool_contents
    2 repeated int32 int_contents
    3 repeated int64 int64_contents
    4 repeated uint32 uint_contents
    5 repeated uint64 uint64_contents
    6 repeated float fp32_contents
    7 repeated double fp64_contents
    8 repeated bytes bytes_contents
"""

EXTENSIONS = """
ModelStreamInferResponse
    1 string error_message
    2 ModelInferResponse infer_response
RepositoryIndexRequest
    1 string repository_name
    2 bool ready
RepositoryIndexResponse
    1 repeated RepositoryIndexResponse.ModelIndex models
RepositoryIndexResponse.ModelIndex
    1 string name
    2 string version
    3 string state
    4 string reason
ModelRepositoryParameter
    1 oneof parameter_choice bool bool_param
    2 oneof parameter_choice int64 int64_param
    3 oneof parameter_choice string string_param
    4 oneof parameter_choice bytes bytes_param
RepositoryModelLoadRequest
    1 string repository_name
    2 string model_name
    3 map<string, ModelRepositoryParameter> parameters
RepositoryModelLoadResponse
RepositoryModelUnloadRequest
    1 string repository_name
    2 string model_name
    3 map<string, ModelRepositoryParameter> parameters
RepositoryModelUnloadResponse
"""

METHODS = [
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "ModelStreamInfer",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
]

SCALARS = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
}


def type_name(field: FieldDescriptor) -> str:
    if field.type != FieldDescriptor.TYPE_MESSAGE:
        return SCALARS[field.type]
    if field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return f"map<{type_name(key)}, {type_name(value)}>"
    return field.message_type.full_name.removeprefix("inference.")


def render_field(field: FieldDescriptor) -> str:
    type_ = type_name(field)
    label = ""
    if field.containing_oneof is not None:
        label = f"oneof {field.containing_oneof.name} "
    elif field.is_repeated and not type_.startswith("map<"):
        label = "repeated "
    return f"    {field.number} {label}{type_} {field.name}"


def render(message: Descriptor) -> list[str]:
    lines = [message.full_name.removeprefix("inference.")]
    lines += [render_field(field) for field in message.fields]
    for nested in message.nested_types:
        if not nested.GetOptions().map_entry:
            lines += render(nested)
    return lines


def test_messages_equal_the_specification() -> None:
    messages = grpc_service_pb2.DESCRIPTOR.message_types_by_name.values()
    rendered = [line for message in messages for line in render(message)]
    assert rendered == (SPECIFICATION.strip() + EXTENSIONS.rstrip()).split("\n")


def test_service_equals_the_specification() -> None:
    service = grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert service.full_name == "inference.GRPCInferenceService"
    assert [method.name for method in service.methods] == METHODS
    for method in service.methods:
        streams = method.name == "ModelStreamInfer"
        request = "ModelInfer" if streams else method.name
        assert method.input_type.full_name == f"inference.{request}Request"
        assert method.output_type.full_name == f"inference.{method.name}Response"
        assert method.client_streaming == streams
        assert method.server_streaming == streams


def test_stub_offers_every_method() -> None:
    servicer = grpc_service_pb2_grpc.GRPCInferenceServiceServicer
    assert all(callable(getattr(servicer, name)) for name in METHODS)
