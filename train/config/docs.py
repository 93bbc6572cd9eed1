"""Writes the tables of `docs/configuration.md` from the schema: `./bazelw run //train/config:docs`.

What stands above the mark is written by hand and stays.
"""

import os
from pathlib import Path

from base.config_page import page
from base.files import write_file
from train.config.reference import parts

PAGE = Path("docs/configuration.md")

MARK = "<!-- What follows is written by `./bazelw run //train/config:docs`. -->"


def main() -> None:
    """Writes the page in the workspace."""
    path = Path(os.environ["BUILD_WORKSPACE_DIRECTORY"], PAGE)
    write_file(path, page(path.read_text(), MARK, parts()).encode())


if __name__ == "__main__":
    main()
