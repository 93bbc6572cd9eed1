"""The page on configurations is what the schema says."""

from pathlib import Path

from base.config_page import page
from train.config.docs import MARK, PAGE
from train.config.load import load_config
from train.config.reference import parts


def test_the_page_is_up_to_date() -> None:
    written = PAGE.read_text()
    assert page(written, MARK, parts()) == written, "run ./bazelw run //train/config:docs"


def test_the_example_is_a_configuration(tmp_path: Path) -> None:
    _, _, rest = PAGE.read_text().partition("```yaml\n")
    example, _, _ = rest.partition("```")
    (tmp_path / "run.yaml").write_text(example)
    config = load_config(tmp_path / "run.yaml")
    assert config.run.num_epochs == 10
    assert config.data.describe().input_shape == config.model.signature.input.shape
