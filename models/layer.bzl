"""What every layer has, by the names that every layer uses.

    load("//models:layer.bzl", "layer")
    load(":deps.bzl", "DEPS")

    layer(
        srcs = ["config.py", "weights.py"],
        deps = DEPS,
    )

CONTRIBUTING.md says what each file holds.
"""

load("//infra/bazel:python.bzl", "py_libraries", "pytest_test")

def layer(deps, srcs = [], size = "medium"):
    """Declares a layer of both frameworks, and the test that the two are one and do what is promised.

    Those are `:flax_layer`, `:torch_layer` and `:layer_test`.

    Args:
      deps: The folder's DEPS.
      srcs: What else it is made of, such as `config.py` and `weights.py`.
      size: Of the test.
    """
    py_libraries(
        srcs = ["flax_layer.py", "torch_layer.py"] + srcs,
        visibility = ["//:may_import_models"],
        deps = deps,
    )
    pytest_test(
        name = "layer_test",
        size = size,
        deps = deps,
    )
