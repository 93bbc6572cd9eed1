"""Layers of container images: of Debian, of distributions of the locked environment, of empty folders, and of a program's own files.

Each is a gzipped tar file and a descriptor, the same bytes wherever it is built; the tool that writes them is oci/layers.py.
oci_image.bzl makes images of them, and has an example.
"""

# Where the runfiles of a program are in its image, and the environment among them.
APPLICATION = "opt/app"
_ENVIRONMENT = "opt/app/pip/site-packages"

# For GPUs or not: all that is from the environment, and what the image says of itself.
FOR_GPUS = "//infra/bazel:cuda"

# A user that has no rights on any machine.
UID = 10001

LayerInfo = provider(
    doc = "A layer of an image.",
    fields = {
        "archive": "The gzipped tar file.",
        "descriptor": "JSON of its digests and what is in it.",
        "distributions": "Names of the distributions that it holds, where it says which.",
    },
)

_ProgramInfo = provider(
    doc = "What a target needs besides its own files.",
    fields = {
        "distributions": "depset of targets' names in @pip.",
        "launchers": "depset of the files by which Bazel starts programs.",
    },
)

def _program_impl(target, ctx):
    # What a rule of our own has read, such as the sources of a kernel, is not there any more when the program runs.
    if ctx.rule.kind not in ["alias", "py_binary", "py_library"]:
        return [_ProgramInfo(distributions = depset(), launchers = depset())]
    needed = [
        dep[_ProgramInfo]
        for attribute in ["deps", "data", "actual"]
        for dep in _listed(getattr(ctx.rule.attr, attribute, None))
        if _ProgramInfo in dep
    ]
    is_distribution = target.label.workspace_name == "pip" and PyInfo in target
    return [_ProgramInfo(
        distributions = depset(
            [target.label.name] if is_distribution else [],
            transitive = [one.distributions for one in needed],
        ),
        launchers = depset(
            [target[DefaultInfo].files_to_run.executable] if ctx.rule.kind == "py_binary" else [],
            transitive = [one.launchers for one in needed],
        ),
    )]

def _listed(value):
    if type(value) == "list":
        return [one for one in value if type(one) == "Target"]
    return [value] if type(value) == "Target" else []

_program = aspect(
    implementation = _program_impl,
    attr_aspects = ["deps", "data", "actual"],
    doc = "Collects what a program needs, by its targets' own words.",
)

def _write_layer(ctx, kind, specification, inputs, distributions = []):
    archive = ctx.actions.declare_file(ctx.label.name + ".tar.gz")
    descriptor = ctx.actions.declare_file(ctx.label.name + ".json")
    file = ctx.actions.declare_file(ctx.label.name + ".specification.json")
    ctx.actions.write(file, json.encode(specification))
    ctx.actions.run(
        executable = ctx.executable._tool,
        arguments = [kind, file.path, archive.path, descriptor.path],
        inputs = depset([file], transitive = [inputs]),
        outputs = [archive, descriptor],
        mnemonic = "OciLayer",
        progress_message = "Writing layer %s" % ctx.label,
    )
    return [
        DefaultInfo(files = depset([archive])),
        LayerInfo(archive = archive, descriptor = descriptor, distributions = distributions),
    ]

# By which modules are compiled: the Python of the base.
_PYTHON = {
    "_python": attr.label(default = "@debian//:python"),
}

_LAYER_TOOL = {
    "_tool": attr.label(default = "//infra/bazel/oci:layers", executable = True, cfg = "exec"),
}

def _debian_layer_impl(ctx):
    specification = {
        "packages": [file.path for file in ctx.files.packages],
        "excluded": ctx.attr.excluded,
        "left_out": ctx.attr.left_out,
        "uid": UID,
    }
    return _write_layer(ctx, "debian", specification, depset(ctx.files.packages))

debian_layer = rule(
    implementation = _debian_layer_impl,
    attrs = dict(_LAYER_TOOL, **{
        "excluded": attr.string_list(doc = "Patterns of paths in the image of what no program needs."),
        "left_out": attr.string_list(doc = "Packages that others name and no image needs, such as dpkg."),
        "packages": attr.label(doc = "The .deb files.", mandatory = True),
    }),
    doc = "A layer that is a small Debian, with a user `app` and no package manager.",
)

def _folders_layer_impl(ctx):
    return _write_layer(ctx, "folders", {"folders": ctx.attr.folders}, depset())

folders_layer = rule(
    implementation = _folders_layer_impl,
    attrs = dict(_LAYER_TOOL, **{
        "folders": attr.string_list(doc = "Paths in the image.", mandatory = True),
    }),
    doc = "A layer of empty folders to which anyone may write, as is a new volume that is mounted there.",
)

def _environment_specification(ctx, **more):
    return dict(
        more,
        environment = ctx.file.environment.path,
        modules = ctx.file.modules.path,
        requirements = ctx.file._requirements.path,
        shared = ctx.file.shared.path if ctx.file.shared else None,
        place = _ENVIRONMENT,
        python = [file.path for file in ctx.files._python],
        excluded = ctx.attr.excluded,
    )

_ENVIRONMENT_ATTRS = dict(_PYTHON, **{
    "environment": attr.label(allow_single_file = True, mandatory = True),
    "excluded": attr.string_list(doc = "Patterns of paths below site-packages that no program needs."),
    "modules": attr.label(allow_single_file = True, mandatory = True),
    "shared": attr.label(doc = "Whose each file is of folders that several distributions have.", allow_single_file = True),
    "_requirements": attr.label(default = "//infra/python:requirements.in", allow_single_file = True),
})

def _environment_inputs(ctx):
    files = [ctx.file.environment, ctx.file.modules, ctx.file._requirements] + ctx.files.shared
    return depset(files + ctx.files._python)

def _environment():
    """The attributes of a layer that say of which environment it is."""
    return {
        "environment": select({
            FOR_GPUS: "@pip_gpu//:site-packages",
            "//conditions:default": "@pip//:site-packages",
        }),
        "modules": select({
            FOR_GPUS: "@pip_gpu//:modules.json",
            "//conditions:default": "@pip//:modules.json",
        }),
        # NVIDIA's libraries have one folder, and are several layers.
        "shared": select({
            FOR_GPUS: "@pip_gpu//:shared.json",
            "//conditions:default": None,
        }),
    }

def _environment_layer_impl(ctx):
    specification = _environment_specification(ctx, only = ctx.attr.only)
    return _write_layer(ctx, "environment", specification, _environment_inputs(ctx), ctx.attr.only)

_environment_layer = rule(
    implementation = _environment_layer_impl,
    attrs = dict(_LAYER_TOOL, **dict(_ENVIRONMENT_ATTRS, **{
        "only": attr.string_list(doc = "Names of the distributions.", mandatory = True),
    })),
    doc = "A layer of some distributions of the locked environment, for all images that need them.",
)

def environment_layer(name, only, excluded = [], **kwargs):
    """Declares a layer of some distributions of the locked environment, for all images that need them.

    Args:
      name: The target's name.
      only: Names of the distributions.
      excluded: Patterns of paths below site-packages that no program needs.
      **kwargs: tags, visibility.
    """
    _environment_layer(
        name = name,
        excluded = excluded,
        only = only,
        **dict(_environment(), **kwargs)
    )

def _needed_layer_impl(ctx):
    names = depset(transitive = [binary[_ProgramInfo].distributions for binary in ctx.attr.binaries])
    elsewhere = [name for layer in ctx.attr.elsewhere for name in layer[LayerInfo].distributions]
    specification = _environment_specification(
        ctx,
        direct = names.to_list(),
        elsewhere = elsewhere,
        without = ctx.attr.without,
    )
    return _write_layer(ctx, "environment", specification, _environment_inputs(ctx))

_needed_layer = rule(
    implementation = _needed_layer_impl,
    attrs = dict(_LAYER_TOOL, **dict(_ENVIRONMENT_ATTRS, **{
        "binaries": attr.label_list(aspects = [_program], mandatory = True),
        "elsewhere": attr.label_list(providers = [LayerInfo]),
        "without": attr.string_list(doc = "Distributions that no program imports where it runs, though its code says so."),
    })),
    doc = "A layer of the distributions that programs need and that no other layer has.",
)

def _place(file):
    """Where a file is among the runfiles; None for the environment, which has its own layers."""
    path = file.short_path
    path = path[len("../"):] if path.startswith("../") else "hpc/" + path
    return None if path.startswith("pip/") or path.startswith("python/") else path

# Endings of what is compiled, and of data.
_SELDOM = (".cubin", ".npz", ".so")

def _changes_seldom(place):
    """Whether a file is in the layer below that of the sources."""
    return place.startswith("hpc/kernels/") or place.endswith(_SELDOM)

def _application_layer_impl(ctx):
    runfiles = depset(transitive = [
        part
        for binary in ctx.attr.binaries
        for part in [binary[DefaultInfo].default_runfiles.files, binary[DefaultInfo].files]
    ])

    # The launcher that Bazel makes of a program finds Python in its own way; an image has one of its own.
    launchers = depset(transitive = [binary[_ProgramInfo].launchers for binary in ctx.attr.binaries]).to_list()
    files = {
        _place(file): file
        for file in runfiles.to_list()
        if _place(file) and file not in launchers and _changes_seldom(_place(file)) == ctx.attr.kernels
    }
    specification = {
        "files": {place: file.path for place, file in files.items()},
        "links": ctx.attr.links,
        "place": APPLICATION,
        "python": [file.path for file in ctx.files._python],
    }
    return _write_layer(ctx, "application", specification, depset(files.values() + ctx.files._python))

_application_layer = rule(
    implementation = _application_layer_impl,
    attrs = dict(_LAYER_TOOL, **dict(_PYTHON, **{
        "binaries": attr.label_list(aspects = [_program], mandatory = True),
        "kernels": attr.bool(doc = "Of what seldom changes, or of all the rest."),
        "links": attr.string_dict(doc = "Paths in the image, and the files among the runfiles that they lead to."),
    })),
    doc = "A layer of a part of what programs need besides Debian's files and the environment.",
)

def program_layers(name, binaries, elsewhere, excluded, links, without):
    """Declares the layers of what programs need and no other layer of their image has.

    Args:
      name: Of the image.
      binaries: The programs, in Python.
      elsewhere: Targets of environment_layer, whose distributions are not needed once more.
      excluded: Patterns of paths below site-packages that the programs do not need.
      links: Paths in the image, and what they lead to: among the programs' runfiles, or absolute.
      without: Distributions that the image does not have, though the programs' code imports them.

    Returns:
      Their labels, from what seldom changes to what often does: distributions; kernels, and what else is compiled or data; sources.
    """
    _needed_layer(
        name = name + ".distributions",
        binaries = binaries,
        elsewhere = elsewhere,
        excluded = excluded,
        without = without,
        **_environment()
    )
    _application_layer(
        name = name + ".kernels",
        binaries = binaries,
        kernels = True,
    )
    _application_layer(
        name = name + ".application",
        binaries = binaries,
        links = links,
    )
    return [":%s.%s" % (name, part) for part in ["distributions", "kernels", "application"]]
