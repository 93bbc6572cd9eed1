"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "both_clients.py": ["//serving/client:aio", "//serving/client:sync"],
    "command_line.py": ["//serving/client/commands:app", "@pip//:typer"],
    "echo_server.py": ["//proto/inference:grpc_service_py_proto", "@pip//:grpcio"],
    "mlserver_driver.py": ["@pip_peers//:mlserver"],
    "scripted_server.py": ["@pip//:grpcio", "@pip//:protobuf"],
}
