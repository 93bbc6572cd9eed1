"""`compare`: two artifacts side by side."""

from typing import Annotated

import typer

from base.files import write_file
from base.program import from_user
from registry.access import Access, Found
from registry.commands.evaluations import comparable
from registry.commands.options import AsJson, RegistryUrl, TrustFile
from registry.commands.output import emit
from registry.comparison.comparison import as_json as comparison_facts
from registry.comparison.comparison import compare as compare_sides
from registry.comparison.page import as_page
from registry.comparison.sides import Side, read_side
from registry.comparison.table import as_table
from registry.errors import ArtifactError
from registry.evaluations import StoredEvaluation


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Such as digits@champion.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Such as digits:1.2.0.")],
    html: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Write a page with plots, too.")
    ] = None,
    registry: RegistryUrl = None,
    trust: TrustFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare two artifacts: metrics with intervals and a paired test, speed, what is different."""
    access = Access(registry, trust)
    found = access.find(a), access.find(b)
    evaluations = comparable(access, found[0].version, found[1].version)
    comparison = compare_sides(*(_side(*of) for of in zip((a, b), found, evaluations, strict=True)))
    if html is not None:
        page = from_user(html)
        try:
            write_file(page, as_page(comparison).encode())
        except OSError as error:
            raise ArtifactError(f"cannot write {page}: {error.strerror}") from error
    emit(comparison_facts(comparison), as_table(comparison), as_json)


def _side(reference: str, found: Found, evaluation: StoredEvaluation | None) -> Side:
    """Returns what is compared, by the version that the user's words mean now."""
    version = found.version
    label = reference if version is None else f"{version.name}:{version.version}"
    return read_side(label, found.directory, evaluation)
