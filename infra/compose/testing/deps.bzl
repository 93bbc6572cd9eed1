"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "callers.py": ["//serving/client:retries", "//serving/client:sync", "@pip//:numpy"],
}
