"""Container images, made by Bazel alone: no daemon, no root, no base image that somebody else has made.

    load("//infra/bazel:oci_image.bzl", "oci_image")
    load("//infra/bazel:oci_layers.bzl", "debian_layer", "environment_layer")

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
`:serving.load` hands the image to podman or docker, `:serving.push` sends it to a registry, `:serving.unpack` writes its files.
Layers go from what seldom changes to what often does: Debian, the heavy distributions, a layer each, all other distributions that the program needs, the kernels with
what else of the project is compiled or data, and last its sources, so that a change of one sends some hundred kilobytes. All of it
is the same bytes wherever it is built. Layers are in oci_layers.bzl, the tools in oci/.

With --define=commit=$(git rev-parse HEAD) an image, and what its programs write, say of which commit they are.

With --define=cuda=1 the distributions are those of @pip_gpu, PyTorch and JAX for CUDA, and the image is called hpc-NAME-cuda13.
"""

load(
    ":oci_layers.bzl",
    "APPLICATION",
    "FOR_GPUS",
    "LayerInfo",
    "UID",
    "program_layers",
)

# The release of CUDA that torch in @pip_gpu is built for; //infra/images:gpu_contents_test compares them.
_CUDA = "13.0"

# How NVIDIA's container toolkit, on a machine with GPUs, is asked for them, and when it has to refuse.
_GPU_VARIABLES = {
    "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
    "NVIDIA_REQUIRE_CUDA": "cuda>=" + _CUDA,
    "NVIDIA_VISIBLE_DEVICES": "all",
}

def _imports(binaries):
    """PYTHONPATH in the image: the roots that the programs' targets name."""
    if not binaries:
        return {}
    roots = depset(transitive = [binary[PyInfo].imports for binary in binaries]).to_list()
    roots = ["hpc"] + [root for root in roots if root != "hpc"]
    return {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONPATH": ":".join(["/%s/%s" % (APPLICATION, root) for root in roots]),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }

def _image_name(attr):
    """What the image is called: those for GPUs say so, by the major release of CUDA."""
    return attr.image_name + ("-cuda" + attr.cuda.partition(".")[0] if attr.cuda else "")

def _commit(ctx):
    """What --define=commit=HASH says that images are built from; none: "".

    By default nothing does, so that a commit that changes none of an image's files leaves its digest as it was.
    """
    commit = ctx.var.get("commit", "")
    if commit and (len(commit) not in (40, 64) or commit.strip("0123456789abcdef")):
        fail("--define=commit=%s: expected the hash of a commit, as of $(git rev-parse HEAD)" % commit)
    return commit

def _oci_image_impl(ctx):
    layout = ctx.actions.declare_directory(ctx.label.name)
    digest = ctx.actions.declare_file(ctx.label.name + ".digest.txt")
    sbom = ctx.actions.declare_file(ctx.label.name + ".spdx.json")
    layers = [layer[LayerInfo] for layer in ctx.attr.layers]
    specification = ctx.actions.declare_file(ctx.label.name + ".specification.json")
    environment = dict(_imports(ctx.attr.binaries), HOME = "/tmp", LANG = "C.UTF-8", PATH = "/usr/sbin:/usr/bin")
    labels = dict(ctx.attr.labels, **{"org.opencontainers.image.title": _image_name(ctx.attr)})
    commit = _commit(ctx)
    if commit:
        labels["org.opencontainers.image.revision"] = commit
        if ctx.attr.binaries:
            environment["HPC_COMMIT"] = commit
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
            {"archive": layer[LayerInfo].archive.path, "descriptor": layer[LayerInfo].descriptor.path, "name": layer.label.name}
            for layer in ctx.attr.layers
        ],
        "ports": ctx.attr.ports,
        "reference": _image_name(ctx.attr),
        "user": "%d:%d" % (UID, UID),
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
        "layers": attr.label_list(providers = [LayerInfo], mandatory = True),
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
            FOR_GPUS: _CUDA,
            "//conditions:default": "",
        })
        own = program_layers(
            name,
            binaries = binaries,
            elsewhere = environment,
            excluded = excluded,
            links = links,
            without = without,
        )
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
