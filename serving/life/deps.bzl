"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "fleet.py": [":refused", "//models:architecture", "//registry:access", "//registry:artifact", "//serving:errors", "//serving/configuration:model_config", "//serving/core:batcher", "//serving/core:catalog", "//serving/core:channel", "//serving/core:errors", "//serving/core:model", "//serving/core:outcome"],
    "fleet_test.py": [":fleet", ":refused", "//registry:errors", "//serving:errors", "//serving/configuration:model_config", "//serving/core:admission", "//serving/core:catalog", "//serving/core:engine", "//serving/core:errors", "//serving/core:model", "//serving/core:outcome", "//serving/core:request", "//serving/testing:held_channels", "@pip//:numpy", "@pip//:pytest"],
    "front.py": ["//serving/configuration:schema", "//serving/core:admission", "//serving/core:engine", "//serving/core:model_control", "//serving/observability:metrics", "//serving/protocols:ports", "//serving/protocols/over_grpc:server", "//serving/protocols/over_http:admin", "//serving/protocols/over_http:server"],
    "lifecycle.py": [":fleet", ":front", ":references", "//base:interrupts", "//registry:access", "//serving/configuration:model_config", "//serving/configuration:schema", "//serving/control:cluster", "//serving/control:placement", "//serving/control:supervision", "//serving/core:admission", "//serving/core:cache", "//serving/core:catalog", "//serving/core:engine", "//serving/core:model", "//serving/core:redis_cache", "//serving/observability:loop_lag", "//serving/observability:metrics", "//serving/observability:program_log", "//serving/observability:request_log", "//serving/observability:telemetry", "//serving/observability:watching", "//serving/protocols:server_facts"],
    "references.py": ["//registry:access", "//serving/configuration:model_config", "//serving/core:model"],
    "refused.py": ["//models:architecture", "//registry:artifact", "//serving/configuration:model_config"],
    "refused_test.py": [":refused", "//models:architecture", "//registry:artifact", "//registry:errors", "//serving:errors", "//serving/configuration:model_config", "@pip//:pytest"],
}
