"""Python libraries, programs and tests. A person writes their sources; their deps stand in a table that a tool writes.

    load("//infra/bazel:python.bzl", "py_libraries", "pytest_tests")
    load(":deps.bzl", "DEPS")

    py_libraries(
        srcs = ["augment.py", "loader.py"],
        visibility = ["//:may_import_data"],
        deps = DEPS,
    )

    pytest_tests(
        size = "small",
        srcs = ["augment_test.py", "loader_test.py"],
        deps = DEPS,
    )

makes `:augment`, `:loader`, `:augment_test` and `:loader_test`. `deps.bzl` lists for each source of the folder the targets
that it imports; `./bazelw run //infra/lint -- --fix` writes it (infra/lint/py_deps.py). What a target needs though no import
shows it, such as a program that it starts, goes into `runtime_deps`.
"""

_RUNNER = "//infra/bazel:pytest_main.py"

def _deps(name, srcs, table, runtime_deps):
    imported = [dep for src in srcs for dep in table.get(src, []) if dep != ":" + name]
    return {dep: None for dep in imported + runtime_deps}.keys()  # each once

def py_library(name, deps, srcs = None, runtime_deps = [], **kwargs):
    """Declares a library.

    Args:
      name: The target's name.
      deps: The folder's DEPS.
      srcs: Its sources; `NAME.py` if not given.
      runtime_deps: What it needs though no import shows it.
      **kwargs: As for the native rule: data, testonly, tags, visibility.
    """
    srcs = srcs or [name + ".py"]
    native.py_library(
        name = name,
        srcs = srcs,
        deps = _deps(name, srcs, deps, runtime_deps),
        **kwargs
    )

def py_libraries(srcs, deps, **kwargs):
    """Declares one library for each source, with the source's name.

    Args:
      srcs: The sources.
      deps: The folder's DEPS.
      **kwargs: As for py_library, for each of them.
    """
    for src in srcs:
        py_library(name = src[:-len(".py")], srcs = [src], deps = deps, **kwargs)

def py_binary(name, deps, srcs = None, runtime_deps = [], **kwargs):
    """Declares a program.

    Args:
      name: The target's name.
      deps: The folder's DEPS.
      srcs: Its sources; `NAME.py` if not given.
      runtime_deps: What it needs though no import shows it.
      **kwargs: As for the native rule: main, args, data, testonly, tags, visibility.
    """
    srcs = srcs or [name + ".py"]
    native.py_binary(
        name = name,
        srcs = srcs,
        deps = _deps(name, srcs, deps, runtime_deps),
        **kwargs
    )

def pytest_test(name, deps, srcs = None, runtime_deps = [], args = [], **kwargs):
    """Declares a test whose cases are found and run by pytest.

    Bazel's own switches work: `--test_filter=EXPRESSION` (pytest's -k), `--test_arg=ARGUMENT` (handed to pytest),
    `shard_count` (cases are cut into runs of neighbours). The cases' results are in the target's test.xml. A target in which
    no case ran fails.

    Args:
      name: The target's name.
      deps: The folder's DEPS.
      srcs: Test files, given to pytest in this order; `NAME.py` if not given.
      runtime_deps: What it needs though no import shows it.
      args: More arguments for pytest.
      **kwargs: As for py_test: size, data, env, tags, shard_count, timeout, flaky, visibility.
    """
    srcs = srcs or [name + ".py"]
    native.py_test(
        name = name,
        srcs = srcs + [_RUNNER],
        main = _RUNNER,
        args = ["$(location %s)" % src for src in srcs] + args,
        deps = _deps(name, srcs, deps, ["@pip//:pytest"] + runtime_deps),
        python_version = "PY3",
        **kwargs
    )

def pytest_tests(srcs, deps, **kwargs):
    """Declares one test for each file, with the file's name.

    Args:
      srcs: The files.
      deps: The folder's DEPS.
      **kwargs: As for pytest_test, for each of them.
    """
    for src in srcs:
        pytest_test(name = src[:-len(".py")], srcs = [src], deps = deps, **kwargs)
