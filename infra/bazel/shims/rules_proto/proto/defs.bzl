"""The native rules of this Bazel under the names that newer code loads."""

proto_lang_toolchain = native.proto_lang_toolchain
proto_library = native.proto_library
