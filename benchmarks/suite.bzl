"""`benchmark_suite`: the program of a suite of benchmarks.

    load("//benchmarks:suite.bzl", "benchmark_suite")

    py_library(
        name = "suite",
        srcs = ["cases.py", "suite.py", ...],
        deps = DEPS,
    )

    benchmark_suite(name = "attention")

All suites have one main, which is told the name of the one to run.
"""

load(":deps.bzl", "DEPS")

def benchmark_suite(name):
    """Declares the program that runs the suite of this package, a py_library `suite`.

    Args:
      name: The target's name, and the package's below //benchmarks.
    """
    main = "//benchmarks:main.py"
    native.py_binary(
        name = name,
        srcs = [main],
        main = main,
        args = [name],
        python_version = "PY3",
        visibility = ["//benchmarks:__pkg__"],
        deps = [":suite"] + DEPS["main.py"],
    )
