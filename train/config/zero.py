"""The section that says what DeepSpeed partitions among ranks, and what it keeps elsewhere."""

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from base.config import MAX_INTEGER, STRICT_INTEGER, Section


class OffloadConfig(Section):
    """Where something is between the moments in which it is needed.

    Reference: Rajbhandari et al., "ZeRO-Infinity", https://arxiv.org/abs/2104.07857.
    """

    device: Literal["none", "cpu", "nvme"] = Field(
        default="none",
        description="none: where it is needed, cpu: in the machine's memory, nvme: in files",
    )
    nvme_path: str | None = Field(
        default=None,
        description="absolute path of a directory on a fast disk; each rank has its files in a new "
        "one below it, for as long as the run lasts",
    )

    @model_validator(mode="after")
    def _check_path(self) -> Self:
        if self.device == "nvme":
            if self.nvme_path is None or not PurePosixPath(self.nvme_path).is_absolute():
                raise ValueError(
                    "nvme_path: expected the absolute path of a directory, as device is 'nvme', "
                    f"got {self.nvme_path!r}"
                )
        elif self.nvme_path is not None:
            raise ValueError(
                f"nvme_path: is heeded if device is 'nvme', which is {self.device!r}; expected null"
            )
        return self


class ZeroConfig(Section):
    """What DeepSpeed partitions among the ranks, https://arxiv.org/abs/1910.02054."""

    stage: Annotated[Literal[0, 1, 2, 3], STRICT_INTEGER] = Field(
        default=0,
        description="1: the optimizer's state, 2: gradients too, 3: weights too",
    )
    sub_group_size: int = Field(
        default=1_000_000_000,
        ge=1,
        le=MAX_INTEGER,
        description="weights of a rank that stage 3 steps at once; of a state in files, so much is "
        "in memory, four times or more",
    )
    offload_optimizer: OffloadConfig = Field(
        default=OffloadConfig(),
        description="the optimizer's state; steps are then made on the CPU",
    )
    offload_param: OffloadConfig = Field(default=OffloadConfig(), description="the weights")

    @model_validator(mode="after")
    def _check_offload(self) -> Self:
        optimizer, param = self.offload_optimizer.device, self.offload_param.device
        if optimizer != "none" and self.stage == 0:
            raise ValueError("offload_optimizer.device: needs a stage of 1, 2 or 3, got 0")
        if optimizer == "nvme" and self.stage != 3:
            raise ValueError(f"offload_optimizer.device: nvme needs stage 3, got {self.stage}")
        if param != "none" and self.stage != 3:
            raise ValueError(f"offload_param.device: {param} needs stage 3, got {self.stage}")
        return self
