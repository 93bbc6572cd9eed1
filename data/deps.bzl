"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "dataset.py": ["//base:config", "@pip//:numpy"],
    "loader.py": [":dataset", ":mixup", "//base:seeds", "@pip//:numpy"],
    "loader_test.py": [":dataset", ":loader", "//data/augment:chain", "//data/augment:config", "@pip//:hypothesis", "@pip//:numpy", "@pip//:pytest"],
    "mixup.py": ["@pip//:numpy"],
    "mixup_test.py": [":dataset", ":loader", ":mixup", "@pip//:numpy", "@pip//:pytest"],
    "prefetch_test.py": [":prefetch", "@pip//:pytest"],
    "source.py": [":dataset", "//data/sources:digits", "//data/sources:mixture", "//data/sources:mnist10k", "//data/sources:recall", "//data/sources:stdlib_text", "//data/sources:waves"],
    "stratified.py": [":dataset", "@pip//:numpy"],
    "validation.py": [":dataset", ":stratified", "//base:seeds", "@pip//:numpy"],
    "validation_test.py": [":dataset", ":loader", ":validation", "//data/sources:stdlib_text", "@pip//:numpy", "@pip//:pytest"],
}
