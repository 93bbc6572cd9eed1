"""Who may import whom: the house of docs/architecture.md as data, from which //:BUILD makes its package groups.

A target with `visibility = ["//:may_import_kernels"]` can be depended on by the rooms listed here and by no other; an
upward import then fails the build. architecture_test.py shows it failing.
"""

# Each room, from the ground up, with the rooms that it may import besides itself.
MAY_IMPORT = {
    "base": [],
    "proto": [],
    "infra": ["base"],
    "kernels": ["base"],
    "optim": ["base", "kernels"],
    "comm": ["base", "kernels"],
    "models": ["base", "kernels"],
    "data": ["base"],
    "registry": ["base", "proto"],
    "train": ["base", "proto", "kernels", "optim", "comm", "models", "data", "registry"],
    "serving": ["base", "proto", "registry", "models"],
    "evaluation": ["base", "proto", "kernels", "models", "data", "registry", "train", "serving"],
    "benchmarks": ["base", "proto", "kernels", "optim", "comm", "models", "data", "registry", "train", "serving", "evaluation"],
    "tests": ["base", "proto", "kernels", "optim", "comm", "models", "data", "registry", "train", "serving", "evaluation", "benchmarks"],
}

# //:quickstart is the one program above all rooms, and these folders ship what is in them.
_ABOVE_ALL = ["//", "//infra/ci", "//infra/compose/...", "//infra/images/..."]

def package_groups():
    """Declares `may_import_ROOM` for every room."""
    for room in MAY_IMPORT:
        clients = [room] + [client for client, rooms in MAY_IMPORT.items() if room in rooms]
        native.package_group(
            name = "may_import_" + room,
            packages = ["//%s/..." % client for client in clients] + _ABOVE_ALL,
        )
