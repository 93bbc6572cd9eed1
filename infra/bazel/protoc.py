"""The protocol buffer compiler of the grpcio-tools wheel, as a program for py_proto_library."""

import sys
from importlib import resources

from grpc_tools import protoc

# protoc reads its own files (google/protobuf/*.proto) from inside the wheel.
sys.exit(protoc.main([*sys.argv, f"--proto_path={resources.files('grpc_tools') / '_proto'}"]))
