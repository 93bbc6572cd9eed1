"""What every task has, by the names that every task uses.

    load("//train/tasks:task.bzl", "task")
    load(":deps.bzl", "DEPS")

    task(deps = DEPS)

CONTRIBUTING.md says what each file holds.
"""

load("//infra/bazel:python.bzl", "py_libraries", "pytest_test")

def task(deps):
    """Declares a task, its objective in both frameworks, and the test of all of it.

    Those are `:task`, `:evaluation`, `:flax_objective`, `:torch_objective` and `:task_test`.

    Args:
      deps: The folder's DEPS.
    """
    py_libraries(
        srcs = [
            "evaluation.py",
            "flax_objective.py",
            "task.py",
            "torch_objective.py",
        ],
        visibility = ["//:may_import_train"],
        deps = deps,
    )
    pytest_test(
        name = "task_test",
        size = "small",
        deps = deps,
    )
