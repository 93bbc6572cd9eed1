"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "lint.py": [":py_deps", "@pip_lint//:clang_format"],
    "py_deps.py": ["//infra/bazel:py_imports_module"],
    "py_deps_test.py": [":py_deps", "@pip//:pytest"],
}
