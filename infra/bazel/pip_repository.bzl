"""A locked Python environment as one repository: `@pip//:torch`, `@pip//:jax`, ...

    pip_repository(
        name = "pip",
        requirements = "//infra/python:requirements.lock",
        source_distributions = ["deepspeed"],
    )

Every distribution of the lock gets a `py_library`. All of them stand for one directory, `site-packages`, so that a test's
runfiles hold one link and not a hundred thousand, native libraries find their neighbours by relative path, and namespace
packages need no rewriting; the separate names keep `deps` readable and let py_imports.bzl check every import.

The lock (`bazel run //infra/python:lock` writes it) holds versions and SHA-256 hashes only: pip looks for the files
wherever the user's own pip configuration says. What is done here in Starlark is little; see pip_install.py.
"""

# What a wheel may not call a top-level module, because the folders of this workspace are imported by these names.
# (`proto` is missing on purpose: a wheel owns that name, so nothing of ours is imported by it.)
RESERVED_MODULES = [
    "base",
    "benchmarks",
    "comm",
    "config",
    "data",
    "evaluation",
    "hpc",
    "inference",
    "infra",
    "kernels",
    "models",
    "optim",
    "quickstart",
    "registry",
    "serving",
    "tests",
    "train",
]

def _pip_repository_impl(rctx):
    script = rctx.path(rctx.attr._script)
    lock = rctx.path(rctx.attr.requirements)
    arguments = [
        rctx.path(Label("@python//:bin/python3")),
        "-I",
        script,
        "--lock",
        lock,
        "--reserved",
        ",".join(RESERVED_MODULES),
        "--source-distributions",
        ",".join(rctx.attr.source_distributions),
        "--torch",
        rctx.attr.torch,
    ]
    for cuda_requirements in rctx.attr.cuda_requirements:
        arguments += ["--cuda-lock", rctx.path(cuda_requirements)]
    if rctx.attr.extra_build:
        arguments += ["--extra-build", rctx.path(rctx.attr.extra_build)]

    rctx.report_progress("installing %s" % rctx.attr.requirements)
    installed = rctx.execute(arguments, timeout = 3600)
    if installed.return_code != 0:
        fail("\n\nerror: cannot install %s:\n%s%s\n" % (
            rctx.attr.requirements,
            installed.stdout,
            installed.stderr,
        ))

pip_repository = repository_rule(
    implementation = _pip_repository_impl,
    attrs = {
        "cuda_requirements": attr.label_list(
            doc = "Locks of what is installed besides with torch's CUDA build.",
            allow_files = True,
        ),
        "extra_build": attr.label(
            doc = "Targets to append to the generated BUILD, such as C++ headers inside wheels.",
            allow_single_file = True,
        ),
        "requirements": attr.label(
            doc = "The lock: a pip requirements file with hashes.",
            mandatory = True,
            allow_single_file = True,
        ),
        "source_distributions": attr.string_list(
            doc = "Distributions without wheels, built after all others are installed, against them.",
        ),
        "torch": attr.string(
            doc = "`any`: torch's build for the CPU, where pip finds it. `cuda`: its CUDA build, or an error.",
            default = "any",
            values = [
                "any",
                "cuda",
            ],
        ),
        "_script": attr.label(default = "//infra/bazel:pip_install.py", allow_single_file = True),
    },
    doc = "Installs a lock file; see the file's docstring.",
)
