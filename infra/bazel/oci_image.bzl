"""Container images, made by Bazel alone: no daemon, no root, no base image that somebody else has made.

    load("//infra/bazel:oci_image.bzl", "debian_layer", "environment_layer", "oci_image")

    debian_layer(name = "debian", packages = "@debian//:python")
    environment_layer(name = "torch", only = ["torch", "sympy", ...])

    oci_image(
        name = "serving",
        base = ":debian",
        binaries = ["//serving:up"],
        entrypoint = ["python3", "-m", "serving.up"],
        environment = [":torch"],
        ports = [8000, 8001],
        title = "What it is, in a line",
    )

makes `:serving`, a folder that is an OCI image layout; `:serving.digest` and `:serving.sbom`, files; and three programs:
`:serving.load` hands the image to podman or docker, `:serving.push` sends it to a registry, `:serving.unpack` writes its files. Layers go from what seldom changes to
what often does: Debian, the heavy distributions, a layer each, all other distributions that the program needs, the kernels with
what else of the project is compiled or data, and last its sources, so that a change of one sends some hundred kilobytes. All of it
is the same bytes wherever it is built. The tools are in oci/.

With --define=cuda=1 the distributions are those of @pip_gpu, PyTorch and JAX for CUDA, and the image is called hpc-NAME-cuda13.
"""

# Where the runfiles of a program are in its image, and the environment among them.
_APPLICATION = "opt/app"
_ENVIRONMENT = "opt/app/pip/site-packages"

# For GPUs or not: all that is from the environment, and what the image says of itself.
_FOR_GPUS = "//infra/bazel:cuda"

# The release of CUDA that torch in @pip_gpu is built for; //infra/images:gpu_contents_test compares them.
_CUDA = "13.0"

# How NVIDIA's container toolkit, on a machine with GPUs, is asked for them, and when it has to refuse.
_GPU_VARIABLES = {
    "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
    "NVIDIA_REQUIRE_CUDA": "cuda>=" + _CUDA,
    "NVIDIA_VISIBLE_DEVICES": "all",
}

# A user that has no rights on any machine.
_UID = 10001

_LayerInfo = provider(
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
        _LayerInfo(archive = archive, descriptor = descriptor, distributions = distributions),
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
        "uid": _UID,
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
            _FOR_GPUS: "@pip_gpu//:site-packages",
            "//conditions:default": "@pip//:site-packages",
        }),
        "modules": select({
            _FOR_GPUS: "@pip_gpu//:modules.json",
            "//conditions:default": "@pip//:modules.json",
        }),
        # NVIDIA's libraries have one folder, and are several layers.
        "shared": select({
            _FOR_GPUS: "@pip_gpu//:shared.json",
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
    elsewhere = [name for layer in ctx.attr.elsewhere for name in layer[_LayerInfo].distributions]
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
        "elsewhere": attr.label_list(providers = [_LayerInfo]),
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
        "place": _APPLICATION,
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

def _imports(binaries):
    """PYTHONPATH in the image: the roots that the programs' targets name."""
    if not binaries:
        return {}
    roots = depset(transitive = [binary[PyInfo].imports for binary in binaries]).to_list()
    roots = ["hpc"] + [root for root in roots if root != "hpc"]
    return {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONPATH": ":".join(["/%s/%s" % (_APPLICATION, root) for root in roots]),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }

def _image_name(attr):
    """What the image is called: those for GPUs say so, by the major release of CUDA."""
    return attr.image_name + ("-cuda" + attr.cuda.partition(".")[0] if attr.cuda else "")

def _oci_image_impl(ctx):
    layout = ctx.actions.declare_directory(ctx.label.name)
    digest = ctx.actions.declare_file(ctx.label.name + ".digest.txt")
    sbom = ctx.actions.declare_file(ctx.label.name + ".spdx.json")
    layers = [layer[_LayerInfo] for layer in ctx.attr.layers]
    specification = ctx.actions.declare_file(ctx.label.name + ".specification.json")
    environment = dict(_imports(ctx.attr.binaries), HOME = "/tmp", LANG = "C.UTF-8", PATH = "/usr/sbin:/usr/bin")
    labels = dict(ctx.attr.labels, **{"org.opencontainers.image.title": _image_name(ctx.attr)})
    if ctx.attr.cuda:
        environment.update(_GPU_VARIABLES)
        labels["hpc.cuda.version"] = ctx.attr.cuda
    ctx.actions.write(specification, json.encode({
        "command": ctx.attr.command,
        "directory": ctx.attr.directory,
        "entrypoint": ctx.attr.entrypoint,
        "environment": dict(environment, **ctx.attr.env),
        "health": ctx.attr.health,
        "labels": labels,
        "layers": [
            {"archive": layer[_LayerInfo].archive.path, "descriptor": layer[_LayerInfo].descriptor.path, "name": layer.label.name}
            for layer in ctx.attr.layers
        ],
        "ports": ctx.attr.ports,
        "reference": _image_name(ctx.attr),
        "user": "%d:%d" % (_UID, _UID),
        "volumes": ctx.attr.volumes,
    }))
    ctx.actions.run(
        executable = ctx.executable._tool,
        arguments = [specification.path, layout.path, digest.path, sbom.path],
        inputs = [specification] + [layer.archive for layer in layers] + [layer.descriptor for layer in layers],
        outputs = [layout, digest, sbom],
        mnemonic = "OciImage",
        # Layers are large: they come into the layout as links, and not once more into the disk cache.
        execution_requirements = {"no-cache": "1", "no-sandbox": "1"},
        progress_message = "Writing image %s" % ctx.label,
    )
    return [
        DefaultInfo(files = depset([layout]), runfiles = ctx.runfiles(files = [layout])),
        OutputGroupInfo(digest = depset([digest]), sbom = depset([sbom])),
    ]

_oci_image = rule(
    implementation = _oci_image_impl,
    attrs = {
        "binaries": attr.label_list(providers = [PyInfo]),
        "command": attr.string_list(),
        "cuda": attr.string(doc = "The release of CUDA that is in it; none: nothing is for GPUs."),
        "directory": attr.string(default = "/"),
        "entrypoint": attr.string_list(mandatory = True),
        "env": attr.string_dict(),
        "health": attr.string_list(),
        "labels": attr.string_dict(),
        "layers": attr.label_list(providers = [_LayerInfo], mandatory = True),
        "ports": attr.int_list(),
        "image_name": attr.string(doc = "Without that of CUDA.", mandatory = True),
        "volumes": attr.string_list(),
        "_tool": attr.label(default = "//infra/bazel/oci:layout", executable = True, cfg = "exec"),
    },
    doc = "An image of layers; see the file's docstring.",
)

def _image_program_impl(ctx):
    program = ctx.attr.program[DefaultInfo]
    layout = ctx.file.image
    script = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.write(script, _START.format(
        image = _image_name(ctx.attr),
        layout = layout.short_path,
        program = program.files_to_run.executable.short_path,
    ), is_executable = True)
    return [DefaultInfo(
        executable = script,
        runfiles = ctx.runfiles(files = [layout]).merge(program.default_runfiles),
    )]

# Bazel starts it in the runfiles of the workspace.
_START = """#!/bin/sh
exec "$PWD/{program}" --layout="$PWD/{layout}" --name={image} "$@"
"""

_image_program = rule(
    implementation = _image_program_impl,
    attrs = {
        "cuda": attr.string(),
        "image": attr.label(allow_single_file = True, mandatory = True),
        "image_name": attr.string(mandatory = True),
        "program": attr.label(executable = True, cfg = "target", mandatory = True),
    },
    executable = True,
    doc = "A program that does something with an image.",
)

def oci_image(
        name,
        base,
        entrypoint,
        title,
        binaries = [],
        environment = [],
        excluded = [],
        layers = [],
        links = {},
        visibility = None,
        without = [],
        **kwargs):
    """Declares an image.

    Args:
      name: The target's name; the image is called hpc-NAME, and hpc-NAME-cuda13 if it is for GPUs.
      base: A debian_layer.
      entrypoint: What the image runs, in exec form.
      title: What the image is, in a line.
      binaries: Programs in Python; all that they need is in the image.
      environment: Targets of environment_layer; what the programs need and these have not is in a layer of the image's own.
      excluded: Patterns of paths below site-packages that the programs do not need.
      layers: What else is in the image, below the programs.
      links: Paths in the image, and what they lead to: among the programs' runfiles, or absolute.
      visibility: Of the image.
      without: Distributions that the image does not have, though the programs' code imports them.
      **kwargs: command, directory, env, health, labels, ports, volumes.
    """
    own = []
    cuda = ""
    if binaries:
        cuda = select({
            _FOR_GPUS: _CUDA,
            "//conditions:default": "",
        })
        _needed_layer(
            name = name + ".distributions",
            binaries = binaries,
            elsewhere = environment,
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
        own = [":%s.%s" % (name, part) for part in ["distributions", "kernels", "application"]]
    _oci_image(
        name = name,
        binaries = binaries,
        cuda = cuda,
        entrypoint = entrypoint,
        image_name = "hpc-" + name,
        labels = {
            "org.opencontainers.image.description": title,
            "org.opencontainers.image.licenses": "MIT",
        },
        layers = [base] + layers + environment + own,
        visibility = visibility,
        **kwargs
    )
    for group in ["digest", "sbom"]:
        native.filegroup(
            name = "%s.%s" % (name, group),
            srcs = [":" + name],
            output_group = group,
            visibility = visibility,
        )
    for verb in ["load", "push", "unpack"]:
        _image_program(
            name = "%s.%s" % (name, verb),
            cuda = cuda,
            image = ":" + name,
            image_name = "hpc-" + name,
            program = "//infra/bazel/oci:" + verb,
            visibility = visibility,
        )
