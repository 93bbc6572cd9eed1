"""The page on configurations is what the schema says."""

from pathlib import Path

import pytest

from train.config.docs import MARK, PAGE, page
from train.config.load import load_config


def test_the_page_is_up_to_date() -> None:
    written = PAGE.read_text()
    assert page(written) == written, "run ./bazelw run //train/config:docs"


def test_the_example_is_a_configuration(tmp_path: Path) -> None:
    _, _, rest = PAGE.read_text().partition("```yaml\n")
    example, _, _ = rest.partition("```")
    (tmp_path / "run.yaml").write_text(example)
    config = load_config(tmp_path / "run.yaml")
    assert config.run.num_epochs == 10
    assert config.data.describe().input_shape == config.model.signature.input.shape


def test_what_is_written_by_hand_stays() -> None:
    made = page(f"# By hand\n\n{MARK}\nold tables\n")
    assert made.startswith(f"# By hand\n\n{MARK}\n\n## ")
    assert "old tables" not in made
    assert page(made) == made


@pytest.mark.parametrize("written", ["", MARK * 2])
def test_a_page_has_one_mark(written: str) -> None:
    with pytest.raises(ValueError, match="expected one line"):
        page(written)
