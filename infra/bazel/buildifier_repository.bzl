"""`@buildifier//:buildifier`: the formatter of BUILD files, from the npm package that carries its programs.

Fetched only by those who run it (//infra/lint); needs npm, which looks for the package wherever the user's own
configuration says.
"""

_PACKAGE = "@bazel/buildifier@8.2.1"
_SHA512 = "799fc0abedabe0f7096ba2db3c24fa7df80825f4d4fe062296a233a17d8e2cce273646d00bab5330f64d9fb6871e38463f16cd2efe35ce6e17aadd689422e05f"

def _buildifier_repository_impl(rctx):
    npm = rctx.which("npm")
    if not npm:
        fail("\n\nerror: buildifier comes from npm, and there is no npm on PATH. On Debian: apt-get install npm\n")
    packed = rctx.execute([npm, "pack", "--silent", _PACKAGE])
    if packed.return_code != 0:
        fail("\n\nerror: npm pack %s failed:\n%s%s\n" % (_PACKAGE, packed.stdout, packed.stderr))
    archive = packed.stdout.strip().split("\n")[-1]
    digest = rctx.execute(["sha512sum", archive]).stdout.split(" ")[0]
    if digest != _SHA512:
        fail("\n\nerror: %s has SHA-512 %s, expected %s\n" % (archive, digest, _SHA512))
    rctx.extract(archive, stripPrefix = "package")
    rctx.symlink("buildifier-linux_amd64", "buildifier")
    rctx.file("BUILD", 'exports_files(["buildifier"], visibility = ["//visibility:public"])\n')

buildifier_repository = repository_rule(
    implementation = _buildifier_repository_impl,
    doc = "Fetches buildifier; see the file's docstring.",
)
