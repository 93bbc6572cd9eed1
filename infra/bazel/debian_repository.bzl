"""Packages of Debian as one repository: `@debian//:python` are the .deb files of python.lock.

    debian_repository(
        name = "debian",
        locks = ["//infra/images:debian/python.lock"],
    )

Fetched only by those who build an image. apt looks for packages wherever the machine's own sources say; see debian_packages.py,
also for what happens when Debian has replaced a version that is locked. `--repo_env=HPC_DEBIAN_STRICT=1` makes that an error.
"""

_FAILING = """\
genrule(
    name = "{name}",
    outs = ["{name}.failed"],
    cmd = "echo 'error: @debian: {reason}' >&2; exit 1",
    visibility = ["//visibility:public"],
)
"""

def _debian_repository_impl(rctx):
    command = [
        rctx.path(Label("@python//:bin/python3")),
        "-I",
        rctx.path(rctx.attr._script),
    ]
    for lock in rctx.attr.locks:
        command += ["--lock", rctx.path(lock)]
    if rctx.os.environ.get("HPC_DEBIAN_STRICT") == "1":
        command.append("--strict")
    rctx.report_progress("fetching packages of Debian")
    fetched = rctx.execute(command, timeout = 1200)
    if fetched.return_code != 0:
        # An image then cannot be built, and says so; all else can.
        reason = fetched.stderr.strip().replace("'", "").replace("\n", "; ").replace("\\", "")
        reason = reason.replace('"', "").replace("$", "$$")
        names = [lock.name.rpartition("/")[2].rpartition(".")[0] for lock in rctx.attr.locks]
        rctx.file("BUILD", "".join([_FAILING.format(name = name, reason = reason) for name in names]))
    elif fetched.stdout:
        # buildifier: disable=print
        print("\nlocks are older than Debian's archive (./bazelw run //infra/images:lock renews them):\n" + fetched.stdout)

debian_repository = repository_rule(
    implementation = _debian_repository_impl,
    attrs = {
        "locks": attr.label_list(
            doc = "Names, versions and hashes; a target for each, of the file's name.",
            mandatory = True,
            allow_files = True,
        ),
        "_script": attr.label(default = "//infra/bazel:debian_packages.py", allow_single_file = True),
    },
    environ = ["HPC_DEBIAN_STRICT"],
    doc = "Fetches packages of Debian; see the file's docstring.",
)
