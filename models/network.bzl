"""What every network has, by the names that every network uses.

    load("//models:network.bzl", "network")
    load(":deps.bzl", "DEPS")

    network(deps = DEPS)

CONTRIBUTING.md says what each file holds.
"""

load("//infra/bazel:python.bzl", "py_libraries", "py_library", "pytest_test")

def network(deps, srcs = [], parity_shards = None):
    """Declares a network of both frameworks, its record, and the test that the two are one.

    Those are `:config`, `:weights`, `:flax_network`, `:torch_network`, `:network`, `:config_test` and `:parity_test`;
    `:cases`, the configurations that tests run, is for tests of other rooms too.

    Args:
      deps: The folder's DEPS.
      srcs: What else it is made of.
      parity_shards: Parts into which `:parity_test` is cut; None: it is not.
    """
    py_libraries(
        srcs = [
            "config.py",
            "flax_network.py",
            "network.py",
            "torch_network.py",
            "weights.py",
        ] + srcs,
        visibility = ["//:may_import_models"],
        deps = deps,
    )
    py_library(
        name = "cases",
        testonly = True,
        visibility = ["//:may_import_models"],
        deps = deps,
    )
    pytest_test(
        name = "config_test",
        size = "small",
        deps = deps,
    )
    pytest_test(
        name = "parity_test",
        size = "medium",
        shard_count = parity_shards,
        deps = deps,
    )
