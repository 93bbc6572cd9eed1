"""`xla_ffi_library`: C++ handlers for JAX's foreign function interface.

    xla_ffi_library(
        name = "xla_handlers",
        srcs = ["xla_handlers.cc"],
        hdrs = ["xla_handlers.h"],
        deps = [":cpu"],
    )

A `cc_library` with XLA's FFI headers, which come from the jaxlib wheel of the lock: a handler is compiled against the same
version that will call it. Link it into a `pybind_extension` that hands the handlers to Python as capsules.

Reference: https://docs.jax.dev/en/latest/ffi.html
"""

def xla_ffi_library(name, srcs, hdrs = [], deps = [], copts = [], **kwargs):
    """Declares a library of handlers.

    Args:
      name: The target's name.
      srcs: Sources with XLA_FFI_DEFINE_HANDLER_SYMBOL in them.
      hdrs: Headers that declare the handlers.
      deps: What the sources include besides xla/ffi/api/*.h.
      copts: More compiler options.
      **kwargs: As for cc_library.
    """
    native.cc_library(
        name = name,
        srcs = srcs,
        hdrs = hdrs,
        # The headers are JAX's; their warnings are not ours to mend.
        copts = ["-Wno-unused-parameter", "-Wno-sign-compare"] + copts,
        deps = deps + ["@pip//:xla_ffi_headers"],
        **kwargs
    )
