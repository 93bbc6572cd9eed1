"""Parts of a locked Python environment: some distributions of it, and all that these need.

An environment is one folder with all distributions of a lock. An image has of it what its program
imports, which Bazel knows, and what that needs by its own metadata. Where distributions share a
namespace, such as `google`, they come together; if it is known whose each file is, they do not,
since NVIDIA's libraries share one folder of gigabytes.
"""

import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement

from infra.bazel.oci.archive import Entry, file_entry

_INFO = ".dist-info"
_LIBRARIES = ".libs"
_BYTECODE = ".pyc"

# What the metadata of a distribution states, that is for no program of ours.
_EXTRAS = re.compile(r"^\s*(?P<name>[A-Za-z0-9._-]+)\[(?P<extras>[^\]]+)\]", flags=re.MULTILINE)

# The image's Python may be older than the one that builds it.
_OLDEST = {"python_full_version": "3.11.0", "python_version": "3.11"}

# By name, normalized, the extras that are wanted of a distribution.
Extras = Mapping[str, Collection[str]]

# By its path below the environment, the distributions, normalized, that have a file.
SharedFiles = Mapping[str, Collection[str]]


def normalized(name: str) -> str:
    """Returns a distribution's name as Bazel's targets are called: `scikit-learn`, scikit_learn."""
    return re.sub(r"[-_.]+", "_", name).lower()


def extras_of(requirements: str) -> dict[str, frozenset[str]]:
    """Reads from a list of requirements which extras are wanted: `ray[serve]`."""
    return {
        normalized(match["name"]): frozenset(re.split(r"\s*,\s*", match["extras"].strip()))
        for match in _EXTRAS.finditer(requirements)
    }


def closure(site_packages: Path, direct: Iterable[str], extras: Extras) -> set[str]:
    """Returns what some distributions need, and them.

    Args:
        site_packages: The environment.
        direct: Names.
        extras: Of those that are installed with some.

    Raises:
        ValueError: One that is needed is not in the environment.
    """
    found: set[str] = set()
    waiting = [(normalized(name), "") for name in direct]
    metadata = {_distribution(info): info / "METADATA" for info in _infos(site_packages)}
    while waiting:
        name, needed_by = waiting.pop()
        if name in found:
            continue
        if name not in metadata:
            raise ValueError(f"{name}, which {needed_by or 'a program'} needs, is not installed")
        found.add(name)
        needed = _needed(metadata[name].read_text(), extras.get(name, ()))
        waiting += [(other, name) for other in needed]
    return found


def top_levels(
    site_packages: Path, modules: Mapping[str, Sequence[str]], shared: SharedFiles
) -> dict[str, frozenset[str]]:
    """Returns for each entry of the environment's folder the distributions that it belongs to.

    Args:
        site_packages: The environment.
        modules: The importable names of each distribution.
        shared: Whose each file of folders is that several have.
    """
    of_stem: dict[str, set[str]] = {}
    for path_of_file, distributions in shared.items():
        of_stem.setdefault(path_of_file.partition("/")[0], set()).update(distributions)
    for distribution, names in modules.items():
        for name in names:
            of_stem.setdefault(name.split(".")[0], set()).add(distribution)
    found = {}
    for path in site_packages.iterdir():
        stem = path.name.split(".")[0]
        if path.suffix == _INFO:
            found[path.name] = frozenset([_distribution(path)])
        elif path.suffix == _LIBRARIES and (name := normalized(path.stem)) in modules:
            found[path.name] = frozenset([name])
        elif stem in of_stem:
            found[path.name] = frozenset(of_stem[stem])
    return found


def environment_entries(
    site_packages: Path,
    owners: Mapping[str, frozenset[str]],
    distributions: Collection[str],
    place: str,
    excluded: Sequence[str],
    shared: SharedFiles,
) -> Iterator[Entry]:
    """Yields the files of some distributions, without bytecode: the image's Python makes its own.

    Args:
        site_packages: The environment.
        owners: See `top_levels`.
        distributions: Which. A folder that some share comes whole with each of them, but for
            `shared`.
        place: Where the environment is in the image.
        excluded: Patterns of paths below the environment, as of `fnmatch`, that are left out.
        shared: Files that come with their own distributions alone.
    """
    is_excluded = re.compile("|".join(map(fnmatch.translate, excluded)) or r"(?!)").match
    wanted = frozenset(distributions)
    for name, of_name in sorted(owners.items()):
        if of_name & wanted:
            for path in _files(site_packages / name):
                relative = path.relative_to(site_packages).as_posix()
                if wanted.isdisjoint(shared.get(relative, wanted)):
                    continue
                if not is_excluded(relative) and not relative.endswith(_BYTECODE):
                    yield file_entry(f"{place}/{relative}", path)


def _needed(metadata: str, extras: Collection[str]) -> Iterator[str]:
    environments = [{**default_environment(), **_OLDEST, "extra": extra} for extra in ("", *extras)]
    header = metadata.partition("\n\n")[0]
    for text in re.findall(r"^Requires-Dist: (.*)$", header, flags=re.MULTILINE):
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate(dict(one)) for one in environments):
            yield normalized(requirement.name)


def _infos(site_packages: Path) -> Iterator[Path]:
    return site_packages.glob(f"*{_INFO}")


def _distribution(info: Path) -> str:
    return normalized(info.name.removesuffix(_INFO).rpartition("-")[0])


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(one for one in path.rglob("*") if one.is_file())
    elif path.exists():
        yield path
