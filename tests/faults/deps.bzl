"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "callers.py": ["//proto/inference:grpc_service_py_proto", "//registry:artifact", "//serving:predictor", "//serving/client:load", "//serving/testing:example", "@pip//:grpcio", "@pip//:numpy"],
    "events.py": [":callers", "//serving/testing:gateway_process", "@pip//:numpy"],
    "faults_test.py": [":callers", ":events", "//registry:artifact", "//serving/testing:example", "//serving/testing:gateway_process", "@pip//:pytest"],
    "overload_test.py": [":callers", ":events", "//registry:artifact", "//serving:predictor", "//serving/testing:example", "//serving/testing:gateway_process", "@pip//:numpy", "@pip//:pytest"],
    "pressure_test.py": [":callers", ":events", "//registry:artifact", "//serving/testing:example", "//serving/testing:gateway_process", "//serving/testing:redis_process", "//serving/testing:rude_client", "@pip//:psutil", "@pip//:pytest"],
}
