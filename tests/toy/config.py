"""What the toy network is made of."""

from pydantic import Field

from base.config import Section


class RegressionConfig(Section):
    """Its sizes."""

    num_features: int = Field(ge=1)
    num_classes: int = Field(ge=2)
