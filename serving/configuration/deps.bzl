"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "command.py": [":load", ":schema", "//base:config_reference", "//base:options", "//base:program", "//base:yaml_loader"],
    "configuration_test.py": [":command", ":schema", "//base:config_reference", "@pip//:pytest"],
    "docs.py": [":command", ":example_file", ":model_config", ":schema", "//base:config_page", "//base:config_reference", "//base:files"],
    "docs_test.py": [":docs", ":example_file", ":load", ":model_config", ":schema", "//base:config_reference", "//base:yaml_loader", "@pip//:pytest"],
    "example_file.py": ["//base:config_reference", "//base:yaml_loader"],
    "load.py": [":address", ":schema", "//base:config", "//base:config_file", "//base:yaml_loader", "@pip//:pydantic"],
    "model_config.py": ["//models:network", "//registry:access", "//registry:errors", "//registry/store:references", "//serving/core:model_policy", "@pip//:pydantic"],
    "schema.py": [":model_config", "//base:config", "//serving/control:options", "//serving/core:cache", "//serving/core:redis_config", "//serving/observability:log_config", "//serving/policies:token_bucket", "//serving/protocols/over_grpc:options", "//serving/protocols/over_http:config", "@pip//:pydantic"],
}
