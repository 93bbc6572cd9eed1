"""The page on configurations is what the schema says."""

import pytest

from train.config.docs import MARK, PAGE, page


def test_the_page_is_up_to_date() -> None:
    written = PAGE.read_text()
    assert page(written) == written, "run ./bazelw run //train/config:docs"


def test_what_is_written_by_hand_stays() -> None:
    made = page(f"# By hand\n\n{MARK}\nold tables\n")
    assert made.startswith(f"# By hand\n\n{MARK}\n\n## ")
    assert "old tables" not in made
    assert page(made) == made


@pytest.mark.parametrize("written", ["", MARK * 2])
def test_a_page_has_one_mark(written: str) -> None:
    with pytest.raises(ValueError, match="expected one line"):
        page(written)
