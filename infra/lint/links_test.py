"""Links are followed as a reader of the page follows them."""

import pytest

from infra.lint.links import dead_links

PAGES = {
    "README.md": "# The `house`, [plainly](docs/a.md): 8 bits\n# Twice\n## Twice\n",
    "docs/a.md": "# A page\n",
    "docs/deep/b.md": "",
    "code/x.py": "# no heading\n",
}


def problems(text: str, page: str = "docs/new.md") -> list[str]:
    files = {**PAGES, page: text}
    return dead_links(files, files.__getitem__)


@pytest.mark.parametrize(
    "link",
    [
        "a.md",
        "./a.md",
        "../README.md",
        "../code/x.py",
        "../code",
        "../code/",
        "..",
        "deep/b.md",
        "a.md#a-page",
        "../README.md#the-house-plainly-8-bits",
        "../README.md#twice",
        "../README.md#twice-1",
        "#own-words",
        "../code/x.py#L1",
        "https://example.org/nothing",
        "mailto:nobody@example.org",
    ],
)
def test_what_there_is_is_no_problem(link: str) -> None:
    assert problems(f"# Own words\nsee [`this`]({link}).\n") == []


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("b.md", "there is no docs/b.md"),
        ("README.md", "there is no docs/README.md"),
        ("../code/y.py", "there is no code/y.py"),
        ("../../README.md", "there is no ../README.md"),
        ("/README.md", "there is no /README.md"),
        ("a.md#another", "docs/a.md has no heading of that name"),
        ("#a-page", "docs/new.md has no heading of that name"),
        ("../README.md#twice-2", "README.md has no heading of that name"),
    ],
)
def test_what_leads_nowhere_is_told(link: str, problem: str) -> None:
    assert problems(f"[x]({link})") == [f"docs/new.md: {link}: {problem}"]


def test_code_holds_no_links() -> None:
    assert problems("```\n[x](absent.md)\n```\nand `[x](absent.md)`\n") == []


def test_a_heading_within_code_is_none() -> None:
    assert problems("```\n# Not one\n```\n[x](#not-one)\n") != []
