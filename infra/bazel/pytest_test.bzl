"""`pytest_test`: a test target whose cases are found and run by pytest.

    load("//infra/bazel:pytest_test.bzl", "pytest_test")

    pytest_test(
        name = "digits_test",
        size = "small",
        srcs = ["digits_test.py"],
        deps = [":digits", "@pip//:numpy"],
    )

Bazel's own switches work: `--test_filter=EXPRESSION` (pytest's -k), `--test_arg=ARGUMENT` (handed to pytest), `shard_count`
(cases are cut into runs of neighbours). The cases' results are in the target's test.xml. A target in which no case ran fails.
"""

def pytest_test(name, srcs, deps = [], args = [], env = {}, **kwargs):
    """Declares a test.

    Args:
      name: The target's name.
      srcs: Test files, given to pytest in this order.
      deps: What they import; pytest itself need not be named.
      args: More arguments for pytest.
      env: Environment variables of the test.
      **kwargs: As for py_test: size, data, tags, shard_count, timeout, flaky, visibility.
    """
    main = "//infra/bazel:pytest_main.py"
    runner = [dep for dep in ["@pip//:pytest"] if dep not in deps]
    native.py_test(
        name = name,
        srcs = srcs + [main],
        main = main,
        args = ["$(location %s)" % src for src in srcs] + args,
        deps = deps + runner,
        env = env,
        python_version = "PY3",
        **kwargs
    )
