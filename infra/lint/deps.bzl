"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "links_test.py": [":links", "@pip//:pytest"],
    "lint.py": [":deps_table", ":links", ":py_deps", ":py_targets", "@pip_lint//:clang_format"],
    "py_deps.py": [":deps_table", ":py_targets", "//infra/bazel:py_imports_module"],
    "py_deps_test.py": [":deps_table", ":py_deps", "@pip//:pytest"],
}
