"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "documentation_test.py": ["//registry/store:store", "//serving/client/commands:app", "//serving/configuration:command", "//serving/protocols:statuses", "//serving/protocols/over_http:config", "//serving/protocols/over_http:routes", "//serving/testing:example", "//serving/testing:gateway_process", "//serving/testing:pages", "@pip//:numpy", "@pip//:pillow", "@pip//:pytest", "@pip//:typer"],
    "predictor.py": ["//models:architecture", "//models:network", "//models/flax:predict", "//models/torch:predict", "//proto/hpc/artifact/v1:artifact_py_proto", "//registry:artifact", "//registry/programs:program"],
    "predictor_test.py": [":predictor", "//models:architecture", "//models:network", "//models:weights", "//registry:artifact", "//registry:example", "@pip//:numpy", "@pip//:pytest"],
    "up.py": [":errors", "//base:interrupts", "//base:program", "//models:architecture", "//registry:access", "//registry:artifact", "//serving/configuration:command", "//serving/configuration:schema", "//serving/control:environment", "//serving/life:lifecycle", "//serving/life:references", "@pip//:uvloop"],
    "up_arguments_test.py": ["//registry:artifact", "//registry:example", "//registry/trust:signing", "//serving/testing:example", "@pip//:pytest"],
    "up_test.py": [":predictor", "//proto/inference:grpc_service_py_proto", "//registry:artifact", "//registry/store:store", "//serving/client:errors", "//serving/client:retries", "//serving/client:sync", "//serving/testing:example", "//serving/testing:gateway_process", "@pip//:grpcio", "@pip//:grpcio_health_checking", "@pip//:numpy", "@pip//:pytest"],
}
