"""The Python that runs every `py_*` target: a 3.11 of the machine, behind a virtual environment of its own.

The environment keeps the machine's site-packages out of sight, so that only what a lock file names can be imported, and
its interpreter is a label that repository rules and toolchains share.

    python_repository(name = "python")
    register_toolchains("@python//:toolchain")

`HPC_PYTHON` names another interpreter than the `python3.11` on PATH.
"""

_VERSION = "3.11"

_PROBE = """
import os, sys, sysconfig
include = sysconfig.get_path("include")
print("%d.%d" % sys.version_info[:2])
print(os.path.realpath(sys.executable))
print(include if os.path.exists(os.path.join(include, "Python.h")) else "")
try:
    import ensurepip, venv
    print("venv")
except ImportError:
    print("")
"""

_BUILD = """
load("@bazel_tools//tools/python:toolchain.bzl", "py_runtime_pair")

package(default_visibility = ["//visibility:public"])

exports_files(["bin/python3"])

py_runtime(
    name = "runtime",
    files = ["pyvenv.cfg"],
    interpreter = "bin/python3",
    python_version = "PY3",
    stub_shebang = "#!/usr/bin/env python3",
)

py_runtime_pair(
    name = "runtime_pair",
    py3_runtime = ":runtime",
)

toolchain(
    name = "toolchain",
    toolchain = ":runtime_pair",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)

cc_library(
    name = "headers",
    hdrs = glob(["headers/**/*.h"]),
    includes = ["headers"],
)
"""

def _refuse(what):
    fail("\n\n".join([
        "\nerror: " + what,
        "What is needed: CPython %s with its headers and the venv module." % _VERSION +
        "\nOn Debian 12: apt-get install python3 python3-dev python3-venv" +
        "\nElsewhere: set HPC_PYTHON to the path of such an interpreter, in the environment or with --repo_env.",
    ]) + "\n")

def _python_repository_impl(rctx):
    named = rctx.os.environ.get("HPC_PYTHON", "")
    python = rctx.path(named) if named.startswith("/") else rctx.which(named or "python" + _VERSION)
    if not python or not python.exists:
        _refuse("there is no %s on this machine." % (named or "python%s on PATH" % _VERSION))

    probe = rctx.execute([python, "-I", "-c", _PROBE])
    if probe.return_code != 0:
        _refuse("%s does not run:\n%s" % (python, probe.stderr))
    version, executable, include, has_venv = probe.stdout.split("\n")[:4]
    if version != _VERSION:
        _refuse("%s is Python %s." % (python, version))
    if not include:
        _refuse("%s has no headers (Python.h)." % python)
    if not has_venv:
        _refuse("%s has no venv module." % python)

    made = rctx.execute([executable, "-I", "-m", "venv", "--without-pip", "."])
    if made.return_code != 0:
        _refuse("%s cannot make a virtual environment:\n%s%s" % (executable, made.stdout, made.stderr))
    rctx.symlink(include, "headers")
    rctx.file("BUILD", _BUILD)

python_repository = repository_rule(
    implementation = _python_repository_impl,
    configure = True,
    environ = ["HPC_PYTHON", "PATH"],
    doc = "Checks for Python %s and makes a toolchain of it; see the file's docstring." % _VERSION,
)
