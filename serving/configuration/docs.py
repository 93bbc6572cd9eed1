"""Writes what is known of each key: `./bazelw run //serving/configuration:docs`.

That is the tables of docs/serving_configuration.md and the keys of config/serve.yaml. What stands
above the mark in each of them is written by hand and stays.
"""

import os
from pathlib import Path

from base.config_page import page
from base.config_reference import Part, parts
from base.files import write_file
from serving.configuration.command import own_parts
from serving.configuration.example_file import example
from serving.configuration.model_config import ModelConfig
from serving.configuration.schema import ServeConfig

PAGE = Path("docs/serving_configuration.md")
EXAMPLE = Path("config/serve.yaml")

_BY = "What follows is written by `./bazelw run //serving/configuration:docs`."
PAGE_MARK = f"<!-- {_BY} -->"
EXAMPLE_MARK = f"# {_BY} Every key has its default."


def documented() -> list[Part]:
    """Returns all sections, and of a model what the gateway itself has not."""
    own = list(own_parts())
    (model,) = (part for part in parts(ServeConfig) if part.path == "models")
    leaves = tuple(leaf for leaf in model.leaves if leaf.owner is ModelConfig)
    return [own[0], model._replace(leaves=leaves), *own[1:]]


def pages(directory: Path) -> dict[Path, str]:
    """Returns both files below a directory as they should be."""
    return {
        PAGE: page((directory / PAGE).read_text(), PAGE_MARK, documented()),
        EXAMPLE: example((directory / EXAMPLE).read_text(), EXAMPLE_MARK, own_parts()),
    }


def main() -> None:
    """Writes both in the workspace."""
    workspace = Path(os.environ["BUILD_WORKSPACE_DIRECTORY"])
    for path, text in pages(workspace).items():
        write_file(workspace / path, text.encode())


if __name__ == "__main__":
    main()
