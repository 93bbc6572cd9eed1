"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "classification.py": ["//serving/core:errors", "//serving/core:signature", "@pip//:numpy"],
    "classification_test.py": [":classification", "//serving/core:errors", "//serving/core:signature", "@pip//:hypothesis", "@pip//:ml_dtypes", "@pip//:numpy", "@pip//:pytest"],
    "elements.py": ["//proto/inference:grpc_service_py_proto", "//serving/core:signature", "@pip//:numpy"],
    "elements_test.py": [":elements", "//proto/inference:grpc_service_py_proto", "//serving/core:signature", "@pip//:hypothesis", "@pip//:ml_dtypes", "@pip//:numpy", "@pip//:pytest"],
    "parameters.py": ["//serving/core:errors"],
    "parameters_test.py": [":parameters", "//serving/core:errors", "@pip//:pytest"],
    "ports.py": ["//serving:errors"],
    "ports_test.py": [":ports", "//serving:errors", "@pip//:pytest"],
    "request_ids.py": ["//serving/core:errors"],
    "request_ids_test.py": [":request_ids", "//serving/core:errors", "@pip//:pytest"],
    "several_tensors_test.py": ["//models:network", "//registry:artifact", "//serving/client:errors", "//serving/client:sync", "//serving/core:model", "//serving/core:request", "//serving/core:signature", "//serving/protocols/over_grpc:options", "//serving/protocols/over_grpc:server", "//serving/protocols/over_http:config", "//serving/protocols/over_http:server", "//serving/protocols/over_http/testing:running", "//serving/replicas:connecting", "//serving/replicas:model", "//serving/testing:local_engine", "//serving/testing:replica_process", "//serving/testing:several_tensors", "@pip//:grpcio", "@pip//:numpy", "@pip//:pytest"],
    "statuses.py": ["//serving/core:errors", "@pip//:grpcio"],
    "statuses_test.py": [":statuses", "//serving/core:errors", "@pip//:grpcio", "@pip//:pytest"],
}
