"""What `--help-config` prints names every key with all that there is to say of it."""

from train.config.help_text import help_text
from train.config.reference import leaves


def test_every_key_has_its_lines() -> None:
    text = help_text()
    words = " ".join(text.split())
    for leaf in leaves():
        default = "(required)" if leaf.default is None else leaf.default
        assert f"\n  {leaf.path}: {default}\n" in text
        assert (
            " ".join(f"{leaf.path}: {default} {leaf.accepted}; {leaf.description}".split()) in words
        )


def test_lines_fit_a_terminal() -> None:
    assert max(map(len, help_text().splitlines())) <= 100


def test_a_table_of_keys_says_when_it_is_read() -> None:
    assert "\ndata.options (data.source: digits)" not in help_text()  # it has no keys
    assert "\ndata.options (data.source: recall)\n" in help_text()
    assert "\ndata.augment (null unless given)\n" in help_text()
