"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "outcomes.py": ["//serving/core:errors", "//serving/core:model", "//serving/core:outcome", "//serving/core:request", "//serving/core:signature", "@pip//:numpy"],
}
