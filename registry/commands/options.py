"""The options that several commands share, and what each of them means."""

from typing import Annotated

import typer

RegistryUrl = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="URL",
        envvar="HPC_REGISTRY",
        help="A directory, or a bucket as s3://, gs:// or az://.",
        show_default="~/.local/share/hpc/registry",
    ),
]
TrustFile = Annotated[
    str | None,
    typer.Option(
        "--trust",
        metavar="FILE",
        envvar="HPC_TRUST",
        help="Whose signatures are trusted.",
        show_default="~/.config/hpc/trust.yaml, if it is there",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reference = Annotated[
    str,
    typer.Argument(
        metavar="REFERENCE",
        help="digits, digits:1, digits:1.2.0, digits@champion, sha256:DIGEST, or a directory.",
    ),
]
SigningKey = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="FILE", envvar="HPC_SIGNING_KEY", help="Private key (PEM) that signs."
    ),
]
Certificate = Annotated[
    str | None,
    typer.Option("--certificate", metavar="FILE", help="Certificate (PEM) of the key."),
]
Chain = Annotated[
    list[str] | None,
    typer.Option("--chain", metavar="FILE", help="Certificate between it and a root; repeatable."),
]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the log.")]
