"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "config.py": ["@pip//:pydantic", "@pip//:pydantic_core"],
    "config_test.py": [":config", "@pip//:pydantic", "@pip//:pytest"],
    "files_test.py": [":files", "@pip//:pytest"],
    "interrupts_test.py": ["@pip//:pytest"],
    "memory_test.py": [":memory", "@pip//:numpy"],
    "options.py": [":program"],
    "program_test.py": [":program", "@pip//:pytest"],
    "provenance_test.py": [":provenance", "@pip//:pytest"],
    "seeds.py": ["@pip//:numpy"],
    "seeds_test.py": [":seeds", "@pip//:numpy", "@pip//:pytest"],
    "yaml_loader.py": [":config", "@pip//:pyyaml"],
    "yaml_loader_test.py": [":yaml_loader", "@pip//:pytest"],
}
