"""What every operation has, by the names that every operation uses.

    load("//kernels:operation.bzl", "operation", "operation_tests")
    load(":deps.bzl", "DEPS")

    operation(
        public_srcs = ["reference.py", "shapes.py"],
        srcs = ["torch_calls.py"],
        deps = DEPS,
    )

    operation_tests(
        name = "quantize",
        deps = DEPS,
    )

A folder adds its C++ libraries `:problem` and `:cpu`, and whatever else it has of its own.
"""

load("//infra/bazel:pybind_extension.bzl", "pybind_extension")
load("//infra/bazel:python.bzl", "py_libraries", "py_library", "pytest_test")
load("//infra/bazel:triton_kernels.bzl", "GPU_ARCHS", "GPU_ARCHS_ENV", "triton_kernels")
load("//infra/bazel:xla_ffi_library.bzl", "xla_ffi_library")
load(":variants.bzl", "IS_SAMPLE")

def operation(
        deps,
        public_srcs = [],
        srcs = [],
        backends = [],
        cubins = [],
        native_deps = [],
        native_visibility = None,
        triton_visibility = None):
    """Declares an operation's contract, its two frameworks' sides, and its bindings and kernels.

    Those are `:contract`, `:jax_op`, `:torch_op`, `:triton_kernels`, `:triton_jit`, the module `:_native` with
    `:xla_handlers`, the launcher `:triton` and `:triton_cubins`.

    Args:
      deps: The folder's DEPS.
      public_srcs: More Python sources that other rooms may import.
      srcs: More Python sources of the operation's own.
      backends: C++ libraries besides `:cpu` and `:triton`.
      cubins: What holds cubins besides `:triton_cubins`.
      native_deps: What native.cc includes besides the backends.
      native_visibility: Of `:_native`, for what calls it directly.
      triton_visibility: Of `:triton`.
    """
    py_libraries(
        srcs = ["contract.py"] + public_srcs,
        visibility = ["//:may_import_kernels"],
        deps = deps,
    )
    py_libraries(
        srcs = ["triton_jit.py", "triton_kernels.py"] + srcs,
        deps = deps,
    )
    py_libraries(
        srcs = ["jax_op.py", "torch_op.py"],
        # What runs on CUDA, where it is asked for.
        data = select({
            "//kernels:cuda": [":triton_cubins"] + cubins,
            "//conditions:default": [],
        }),
        visibility = ["//:may_import_kernels"],
        deps = deps,
    )

    backends = [":problem", ":cpu", ":triton"] + backends
    pybind_extension(
        name = "_native",
        srcs = ["native.cc"],
        pyi = "_native.pyi",
        visibility = native_visibility,
        deps = backends + [":xla_handlers", "//kernels/native:python_module"] + native_deps,
    )
    xla_ffi_library(
        name = "xla_handlers",
        srcs = ["xla_handlers.cc"],
        hdrs = ["xla_handlers.h"],
        deps = backends + ["//kernels/native:xla_calls"],
    )
    native.cc_library(
        name = "triton",
        srcs = ["triton.cc"],
        hdrs = ["triton.h"],
        visibility = triton_visibility,
        deps = [
            ":problem",
            "//kernels/native:cuda_driver",
            "//kernels/native:cuda_launch",
        ],
    )
    triton_kernels(
        name = "triton_cubins",
        src = "triton_kernels.py",
        archs = GPU_ARCHS,
        sample = IS_SAMPLE,
        deps = [":triton_kernels"],
    )

def operation_tests(name, deps, suite = None, triton_suite = None, triton_size = "large", **kwargs):
    """Declares the tests that every operation has, and what they share: the library `:cases`.

    Those are the suite over all backends, `NAME_test`, `NAME_avx2_test`, `NAME_generic_test` and `NAME_triton_test`;
    `NAME_triton_cubins_test`, which looks at the compiled kernels; and `NAME_gpu_test`.

    Args:
      name: The operation, the folder's name.
      deps: The folder's DEPS.
      suite: The suite's files; `NAME_test.py` if not given.
      triton_suite: Those that Triton's interpreter runs, where not all.
      triton_size: The size of that test.
      **kwargs: As for pytest_test, for the suite.
    """
    py_library(
        name = "cases",
        testonly = True,
        deps = deps,
    )
    suite = suite or [name + "_test.py"]
    pytest_test(
        name = name + "_test",
        size = "medium",
        srcs = suite,
        deps = deps,
        **kwargs
    )
    isa_tests(
        name = name,
        size = "medium",
        srcs = suite,
        deps = deps,
        **kwargs
    )
    pytest_test(
        name = name + "_triton_test",
        size = triton_size,
        srcs = triton_suite or suite,
        env = {
            "HPC_KERNEL_BACKEND": "triton",
            "TRITON_INTERPRET": "1",
        },
        deps = deps,
        **kwargs
    )
    cubins_test(
        name = name + "_triton_cubins_test",
        data = [":triton_cubins"],
        deps = deps,
    )
    gpu_test(
        name = name + "_gpu_test",
        data = [":triton_cubins"],
        deps = deps,
    )

def isa_tests(name, deps, srcs = None, **kwargs):
    """Declares a test once for each older instruction set, as `NAME_avx2_test` and `NAME_generic_test`.

    Args:
      name: The tests' name without the instruction set and `_test`.
      deps: The folder's DEPS.
      srcs: Test files; `NAME_test.py` if not given.
      **kwargs: As for pytest_test.
    """
    for isa in ["avx2", "generic"]:
        pytest_test(
            name = "%s_%s_test" % (name, isa),
            srcs = srcs or [name + "_test.py"],
            env = {"HPC_CPU_ISA": isa},
            deps = deps,
            **kwargs
        )

def cubins_test(name, deps, data):
    """Declares a test that looks at cubins and launches them on a driver that only records; it needs no GPU.

    Args:
      name: The target's name.
      deps: The folder's DEPS.
      data: The cubins.
    """
    pytest_test(
        name = name,
        size = "medium",
        data = data,
        env = GPU_ARCHS_ENV,
        # Imported by the process that launches.
        runtime_deps = [":_native"],
        deps = deps,
    )

def gpu_test(name, deps, data):
    """Declares a test that needs an NVIDIA GPU.

    Args:
      name: The target's name.
      deps: The folder's DEPS.
      data: The cubins that it runs.
    """
    pytest_test(
        name = name,
        size = "medium",
        data = data,
        tags = ["gpu", "manual"],
        deps = deps,
    )
