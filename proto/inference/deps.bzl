"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "grpc_service_test.py": [":grpc_service_py_proto", "@pip//:protobuf"],
}
