"""The page, and the example, are what the sections say."""

from pathlib import Path

import pytest

from base.config_reference import parts
from base.yaml_loader import load_yaml
from serving.configuration.docs import EXAMPLE, EXAMPLE_MARK, PAGE, pages
from serving.configuration.example_file import example
from serving.configuration.load import load_config
from serving.configuration.model_config import ModelConfig, ModelOptions
from serving.configuration.schema import ServeConfig


def test_both_are_up_to_date() -> None:
    for path, text in pages(Path()).items():
        assert path.read_text() == text, "run ./bazelw run //serving/configuration:docs"


def test_the_example_has_every_key_and_says_what_holds_anyway() -> None:
    config = load_config(EXAMPLE, {})
    assert [model.reference for model in config.models] == ["digits@champion", "digits:1.0.0"]
    assert config == ServeConfig(models=config.models)
    keys = load_yaml(EXAMPLE.read_text())
    for part in parts(ServeConfig):
        if part.path != "models" and not part.path.startswith("models."):
            section = keys[part.path] if part.path else keys
            assert {leaf.name for leaf in part.leaves} <= section.keys()


def test_the_example_of_the_page_is_a_configuration(tmp_path: Path) -> None:
    text = PAGE.read_text().partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "serve.yaml").write_text(text)
    config = load_config(tmp_path / "serve.yaml", {})
    assert config.of_model(config.models[1]).max_batch_size == 32


def test_the_page_names_what_a_model_can_have_of_its_own() -> None:
    line = next(line for line in PAGE.read_text().split("\n- ") if line.startswith("A model can"))
    assert {f"`{name}`" for name in ModelConfig.model_fields} <= {
        word.strip(",.") for word in line.split()
    }
    assert ModelOptions.model_fields.keys() < ModelConfig.model_fields.keys()


@pytest.mark.parametrize("written", ["", EXAMPLE_MARK * 2])
def test_a_file_has_one_mark(written: str) -> None:
    with pytest.raises(ValueError, match="expected one line"):
        example(written, EXAMPLE_MARK, parts(ServeConfig))
