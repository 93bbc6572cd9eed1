"""The section `data` of a configuration: what to learn from, and how batches are made of it."""

from typing import Annotated

from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator

from base.config import MAX_INTEGER, Section, check_section, one_of
from data.augment.config import AugmentConfig
from data.dataset import Dataset, ExampleSpec
from data.mixup import Mixup
from data.source import SOURCES

MAX_MULTIPLE = 65536


class DataConfig(Section):
    """What to learn from, and how batches are made of it."""

    source: Annotated[str, one_of(SOURCES)] = Field(description="where examples come from")
    options: SerializeAsAny[Section] = Field(
        default={}, validate_default=True, description="of the source"
    )
    global_batch_size: int = Field(
        default=64,
        ge=1,
        le=MAX_INTEGER,
        description="examples in one optimizer update, on all ranks together",
    )
    gradient_accumulation_steps: int = Field(
        default=1,
        ge=1,
        le=MAX_INTEGER,
        description="micro-batches in which a rank goes through its examples",
    )
    pad_to_multiple_of: int | None = Field(
        default=None,
        ge=1,
        le=MAX_MULTIPLE,
        description="sequences of tokens are cut to the longest of their batch, rounded up to a "
        "multiple of this; each length is compiled once; null: they are not cut",
    )
    group_by_length: bool = Field(
        default=False,
        description="put sequences of about one length into a batch; each still comes once an "
        "epoch",
    )
    mixup_alpha: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="examples are mixed in pairs, and their targets alike, in shares drawn from "
        "the Beta distribution of this; null: they are not",
    )
    augment: AugmentConfig | None = Field(
        default=None, description="what happens to images; null: nothing"
    )

    @field_validator("options", mode="plain")
    @classmethod
    def _check_options(cls, value: object, info: ValidationInfo) -> object:
        source = SOURCES.get(info.data.get("source", ""))
        return value if source is None else check_section(source.options, value)

    @field_validator("pad_to_multiple_of", "group_by_length")
    @classmethod
    def _check_lengths_differ(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and (examples := _examples(info)) and not examples.is_padded:
            raise ValueError(
                f"data.source {info.data['source']!r} has {examples.unit} of one length, as its "
                "data.options say; leave it out"
            )
        return value

    @field_validator("mixup_alpha")
    @classmethod
    def _check_can_be_mixed(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is None or (examples := _examples(info)) is None:
            return value
        one_class = examples.num_classes is None or not examples.target_shape
        if examples.input_dtype != "float32" or not one_class:
            raise ValueError(
                f"mixes inputs float32 and one class or numbers, but data.source "
                f"{info.data['source']!r} has inputs {examples.input_dtype} "
                f"{list(examples.input_shape)} and targets {examples.target_dtype} "
                f"{list(examples.target_shape)}; leave it out"
            )
        return value

    @field_validator("augment")
    @classmethod
    def _check_images(
        cls, value: AugmentConfig | None, info: ValidationInfo
    ) -> AugmentConfig | None:
        if value is None or (examples := _examples(info)) is None:
            return value
        shape = examples.input_shape
        if len(shape) != 3:
            raise ValueError(
                f"changes images [height, width, channels], but data.source "
                f"{info.data['source']!r} has inputs {list(shape)}; leave it out"
            )
        smallest = min(shape[:2])
        for key in ("crop_padding", "cutout_pixels"):
            if getattr(value, key) >= smallest:
                raise ValueError(
                    f"{key} {getattr(value, key)} can leave nothing of images of {shape[0]} x "
                    f"{shape[1]} pixels; expected less than {smallest}"
                )
        return value

    def describe(self) -> ExampleSpec:
        """Says what the examples are, at once."""
        return SOURCES[self.source].describe(self.options)

    @property
    def mixup(self) -> Mixup | None:
        """How examples are mixed, if they are."""
        if self.mixup_alpha is None:
            return None
        return Mixup(self.mixup_alpha, self.describe().num_classes)

    def load(self) -> Dataset:
        """Reads the examples, which may take seconds."""
        return SOURCES[self.source].load(self.options)


def _examples(info: ValidationInfo) -> ExampleSpec | None:
    """Returns what the examples are, if the fields above are right by themselves."""
    if not {"source", "options"} <= info.data.keys():
        return None
    return SOURCES[info.data["source"]].describe(info.data["options"])
