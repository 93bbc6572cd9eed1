"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "callbacks.py": ["//base:config", "@pip//:pydantic"],
    "checkpoint.py": ["//base:config", "@pip//:pydantic"],
    "config_test.py": [":load", ":schema", "//optim:registry", "//train/testing:example", "@pip//:pydantic", "@pip//:pytest", "@pip//:pyyaml"],
    "data.py": ["//base:config", "//data:dataset", "//data:mixup", "//data:source", "//data/augment:config", "@pip//:pydantic"],
    "docs.py": [":reference", "//base:files"],
    "docs_test.py": [":docs", ":load", "@pip//:pytest"],
    "evaluation.py": ["//base:config", "@pip//:pydantic"],
    "help_text.py": [":reference"],
    "help_text_test.py": [":help_text", ":reference"],
    "load.py": [":overrides", ":schema", ":yaml_loader", "//base:config", "@pip//:pydantic"],
    "overrides.py": [":yaml_loader", "//base:config"],
    "overrides_test.py": [":overrides", "@pip//:pytest"],
    "precision.py": ["//base:config", "@pip//:pydantic"],
    "reference.py": [":schema", "//base:config", "//data:source", "//models:architecture", "//train/tasks:table", "@pip//:annotated_types", "@pip//:pydantic", "@pip//:pydantic_core"],
    "reference_test.py": [":reference", "//base:config", "//train/testing:example", "@pip//:pydantic", "@pip//:pytest"],
    "regularization.py": ["//base:config", "@pip//:pydantic"],
    "regularization_test.py": [":regularization", "@pip//:pydantic", "@pip//:pytest"],
    "schema.py": [":callbacks", ":checkpoint", ":data", ":evaluation", ":precision", ":regularization", "//base:config", "//models:architecture", "//optim:algorithm", "//optim:registry", "//registry:descriptor", "//train/tasks:table", "@pip//:pydantic"],
    "yaml_loader.py": ["//base:config", "@pip//:pyyaml"],
    "yaml_loader_test.py": [":yaml_loader", "@pip//:pytest"],
}
