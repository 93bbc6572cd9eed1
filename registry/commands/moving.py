"""`export` and `import`: an artifact as an OCI image layout, and back."""

from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.text import Text

from base.program import directory_from_user
from registry.access import Access
from registry.commands.options import AsJson, Reference, RegistryUrl, TrustFile
from registry.commands.output import as_facts, emit
from registry.errors import ArtifactError
from registry.oci.exporting import export_layout
from registry.oci.importing import import_layout

_NO_LAYOUT = "the OCI layout is ''; name a directory"


def export(
    reference: Reference,
    layout: Annotated[str, typer.Argument(metavar="LAYOUT", help="A new directory.")],
    name: Annotated[
        str | None,
        typer.Option(
            "--reference", metavar="NAME", help="In the layout.", show_default="the version"
        ),
    ] = None,
    registry: RegistryUrl = None,
    trust: TrustFile = None,
    as_json: AsJson = False,
) -> None:
    """Write an artifact, with its signatures, as an OCI image layout."""
    found = Access(registry, trust).find(reference)
    place = directory_from_user(layout, _NO_LAYOUT)
    manifest = export_layout(found.directory, place, reference=name)
    facts = {"layout": str(place), "manifest": manifest, "digest": found.descriptor.digest}
    emit(facts, Text(f"exported {found.title} to {place}\nmanifest {manifest}"), as_json)


def import_(
    layout: Annotated[str, typer.Argument(metavar="LAYOUT", help="Directory or tar archive.")],
    name: Annotated[
        str | None,
        typer.Option(
            "--reference", metavar="NAME_OR_DIGEST", help="Which one, if it holds several."
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DIR", help="A new directory instead of the registry."),
    ] = None,
    registry: RegistryUrl = None,
    trust: TrustFile = None,
    as_json: AsJson = False,
) -> None:
    """Take an artifact out of an OCI image layout, verify it, and publish it."""
    source = directory_from_user(layout, _NO_LAYOUT)
    access = Access(registry, trust)
    if to is not None:
        place = directory_from_user(to, "--to: the directory is ''; name a new one")
        descriptor = import_layout(source, place, reference=name)
        try:
            access.checked(descriptor)
        except ArtifactError:
            rmtree(place)  # it was made just now, and is nobody's to use
            raise
        facts = {"directory": str(place), "digest": descriptor.digest}
        emit(facts, Text(f"imported to {place}\nsha256 {descriptor.digest}"), as_json)
        return
    store = access.store
    with TemporaryDirectory(prefix="import-") as temporary:
        place = Path(temporary, "artifact")
        access.checked(import_layout(source, place, reference=name))
        version = store.publish(place)
    told = f"imported {version.name}:{version.version} to {store.url}\nsha256 {version.digest}"
    emit({**as_facts(version), "registry": store.url}, Text(told), as_json)
