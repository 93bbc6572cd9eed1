"""`pybind_extension`: a Python module written in C++ with pybind11.

    pybind_extension(
        name = "_native",
        srcs = ["native.cc"],
        pyi = "_native.pyi",
        deps = [":cpu"],
    )

makes `_native.so`, imported from the package of its folder, and the `py_library` `_native` for `deps`.
"""

def pybind_extension(name, srcs, deps = [], copts = [], pyi = None, tags = [], visibility = None):
    """Declares an extension module.

    Args:
      name: The module's name; the PYBIND11_MODULE in srcs must have the same.
      srcs: C++ sources of the binding; the work belongs in a cc_library.
      deps: What the binding includes; pybind11 and Python are there already.
      copts: More compiler options.
      pyi: The stub that tells type checkers what the module holds.
      tags: As for every target.
      visibility: Of the py_library.
    """
    shared = name + ".so"
    native.cc_binary(
        name = shared,
        srcs = srcs,
        copts = ["-fvisibility=hidden", "-fexceptions"] + copts,
        # Two modules in one process must not answer for each other's symbols.
        linkopts = ["-Wl,-Bsymbolic", "-Wl,--exclude-libs,ALL"],
        linkshared = True,
        tags = tags,
        visibility = ["//visibility:private"],
        deps = deps + ["@pip//:pybind11_headers"],
    )
    native.py_library(
        name = name,
        data = [shared] + ([pyi] if pyi else []),
        tags = tags,
        visibility = visibility,
    )
