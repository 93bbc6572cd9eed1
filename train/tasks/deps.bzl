"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "estimates.py": ["@pip//:numpy"],
    "estimates_test.py": [":estimates", "@pip//:numpy", "@pip//:pytest"],
    "table.py": [":task", "//data:dataset", "//train/tasks/classification:task", "//train/tasks/next_token:task", "//train/tasks/regression:task"],
    "table_test.py": [":table", ":task", "//data:dataset", "@pip//:numpy", "@pip//:pytest"],
    "task.py": [":estimates", "//base:config", "//data:dataset", "//models:initializers", "//models:network", "@pip//:numpy"],
}
