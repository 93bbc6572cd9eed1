"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "config_test.py": [":load", ":schema", "//optim:registry", "//train/testing:example", "@pip//:pydantic", "@pip//:pytest", "@pip//:pyyaml"],
    "load.py": [":overrides", ":schema", ":yaml_loader", "//base:config", "@pip//:pydantic"],
    "overrides.py": [":yaml_loader", "//base:config"],
    "overrides_test.py": [":overrides", "@pip//:pytest"],
    "schema.py": ["//base:config", "//data:dataset", "//data:source", "//models:architecture", "//optim:algorithm", "//optim:registry", "//registry:descriptor", "//train/tasks:table", "@pip//:pydantic"],
    "yaml_loader.py": ["//base:config", "@pip//:pyyaml"],
    "yaml_loader_test.py": [":yaml_loader", "@pip//:pytest"],
}
