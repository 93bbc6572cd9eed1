"""The C++ compiler of this machine, for rules that run it, or hand it to another one, themselves."""

load("@bazel_tools//tools/build_defs/cc:action_names.bzl", "CPP_COMPILE_ACTION_NAME")
load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")

def cpp_compiler(ctx):
    """Returns the compiler of a rule that has `_cc_toolchain` among its attributes.

    Args:
      ctx: Of the rule.

    Returns:
      A struct: `path` of the compiler, the `toolchain` that it is of, and its configured `features`.
    """
    toolchain = find_cpp_toolchain(ctx)
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    path = cc_common.get_tool_for_action(
        feature_configuration = features,
        action_name = CPP_COMPILE_ACTION_NAME,
    )
    return struct(features = features, path = path, toolchain = toolchain)
