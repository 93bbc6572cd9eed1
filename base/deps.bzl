"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "config.py": ["@pip//:pydantic", "@pip//:pydantic_core"],
    "config_file.py": [":config", ":yaml_loader"],
    "config_page.py": [":config_reference"],
    "config_page_test.py": [":config", ":config_page", ":config_reference", "@pip//:pydantic", "@pip//:pytest"],
    "config_reference.py": [":config", "@pip//:annotated_types", "@pip//:pydantic", "@pip//:pydantic_core"],
    "config_reference_test.py": [":config", ":config_reference", "@pip//:pydantic", "@pip//:pytest"],
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
