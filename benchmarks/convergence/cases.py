"""What is trained with which ways for gradients to travel: known before PyTorch is imported."""

import argparse
from typing import NamedTuple

# The tables of the record.
RUN_TABLE = "run"
COMPARISON_TABLE = "comparison"

FLOAT32 = "float32"
BFLOAT16 = "bfloat16"
POWER_SGD = {rank: f"PowerSGD, rank {rank}" for rank in (1, 4)}
INT8 = "int8 + feedback"
INT8_WITHOUT_FEEDBACK = "int8"
FLOAT8 = "float8 e4m3 + feedback"
FOUR_BITS_WITH_FEEDBACK = "4 bits + feedback"
FOUR_BITS = "4 bits"
FOUR_BITS_A_TENSOR = "4 bits, scale a tensor"

# The keys of `sides.VARIANTS`, as they are listed.
VARIANT_NAMES = (
    FLOAT32,
    BFLOAT16,
    *POWER_SGD.values(),
    INT8,
    INT8_WITHOUT_FEEDBACK,
    FLOAT8,
    FOUR_BITS_WITH_FEEDBACK,
    FOUR_BITS,
    FOUR_BITS_A_TENSOR,
)

_QUICK_VARIANTS = (FLOAT32, INT8, FOUR_BITS, FOUR_BITS_A_TENSOR)

_STEPS, _QUICK_STEPS = 300, 100
# By number of ranks; four ranks on two cores are slow.
_SEEDS = {2: 5, 4: 3}
_QUICK_SEEDS = 4


class Cell(NamedTuple):
    """What the variants have in common that are compared with each other."""

    task: str
    world_size: int
    seed: int
    num_steps: int


def cells_of(args: argparse.Namespace) -> list[Cell]:
    """Returns what to run.

    Every seed is of one number of ranks only, so that all float32 runs count.
    """
    num_steps = args.steps or (_QUICK_STEPS if args.quick else _STEPS)
    seeds: list[tuple[int, int]] = []
    for world_size in args.world_sizes or ([2] if args.quick else list(_SEEDS)):
        count = args.seeds or (_QUICK_SEEDS if args.quick else _SEEDS.get(world_size, 3))
        seeds += [(world_size, len(seeds) + index) for index in range(count)]
    return [
        Cell(task, world_size, seed, num_steps) for task in args.tasks for world_size, seed in seeds
    ]


def variants_of(args: argparse.Namespace) -> list[str]:
    """Returns the chosen variants in their fixed order, float32 first."""
    chosen = args.variants or (_QUICK_VARIANTS if args.quick else VARIANT_NAMES)
    return [name for name in VARIANT_NAMES if name == FLOAT32 or name in chosen]
