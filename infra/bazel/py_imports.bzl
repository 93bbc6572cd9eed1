"""An aspect that fails the build when a Python source imports what its target does not declare.

.bazelrc applies it to every build and test. For each target it writes down what the direct `deps` make importable, and
py_imports.py compares that with the imports of the sources. Without it a source could import whatever some other target
happened to pull in (all wheels of a lock share one folder), and the architecture that `visibility` guards would have a
hole.
"""

PyModulesInfo = provider(
    doc = "What a target makes importable.",
    fields = {
        "distribution": "A `[environment, name]` pair for a target of a pip_repository, else None.",
        "modules": "Dotted names of the modules in the target's own files.",
    },
)

_RULES = ["py_library", "py_binary", "py_test"]

def py_module(file):
    """Names the module in a file.

    Args:
      file: A source file or extension module, at its place below the workspace's root.

    Returns:
      The dotted name by which it is imported, or None if it is no module.
    """
    for suffix in [".py", ".so"]:
        if file.short_path.endswith(suffix):
            return file.short_path[:-len(suffix)].replace("/", ".")
    return None

def _modules(files):
    return [module for module in [py_module(file) for file in files] if module]

def _files(ctx, name):
    return [
        file
        for target in getattr(ctx.rule.attr, name, [])
        for file in target[DefaultInfo].files.to_list()
    ]

def _provided(target, ctx):
    repository = target.label.workspace_name
    if repository.startswith("pip"):
        return PyModulesInfo(distribution = [repository, target.label.name], modules = [])
    return PyModulesInfo(
        distribution = None,
        modules = _modules(_files(ctx, "srcs") + [f for f in _files(ctx, "data") if f.extension == "so"]),
    )

def _py_imports_impl(target, ctx):
    if PyModulesInfo in target:
        return []  # a rule of our own that says so itself
    if ctx.rule.kind not in _RULES:
        return []
    provided = _provided(target, ctx)
    if provided.distribution:
        return [provided]

    deps = [dep[PyModulesInfo] for dep in ctx.rule.attr.deps if PyModulesInfo in dep]
    sources = [file for file in _files(ctx, "srcs") if file.extension == "py"]
    manifest = ctx.actions.declare_file(ctx.label.name + ".imports.json")
    ctx.actions.write(manifest, json.encode({
        "distributions": [dep.distribution for dep in deps if dep.distribution],
        "label": str(ctx.label),
        "modules": provided.modules + [module for dep in deps for module in dep.modules],
        "sources": [source.path for source in sources],
    }))
    checked = ctx.actions.declare_file(ctx.label.name + ".imports.checked")
    environments = ctx.files._environments
    arguments = ctx.actions.args()
    arguments.add("--manifest", manifest)
    arguments.add_all(environments, before_each = "--environment")
    arguments.add("--output", checked)
    ctx.actions.run(
        executable = ctx.executable._checker,
        arguments = [arguments],
        inputs = sources + [manifest] + environments,
        outputs = [checked],
        mnemonic = "PyImports",
        progress_message = "Checking imports of %s" % ctx.label,
    )
    return [provided, OutputGroupInfo(_validation = depset([checked]))]

py_imports = aspect(
    implementation = _py_imports_impl,
    attr_aspects = ["deps"],
    attrs = {
        "_checker": attr.label(
            default = "//infra/bazel:py_imports",
            executable = True,
            cfg = "exec",
        ),
        "_environments": attr.label_list(
            default = [
                "@pip//:modules.json",
                "@pip_clients//:modules.json",
                "@pip_compose//:modules.json",
                "@pip_lint//:modules.json",
                "@pip_peers//:modules.json",
            ],
            allow_files = True,
        ),
    },
    doc = "Checks imports against declared dependencies; see the file's docstring.",
)
