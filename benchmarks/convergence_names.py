"""What tasks and ways for gradients to travel are called: known before PyTorch is imported."""

# The keys of `convergence_tasks.TASKS`.
TASK_NAMES = ("digits", "digits-cnn", "bytes")

FLOAT32 = "float32"
BFLOAT16 = "bfloat16"
POWER_SGD = {rank: f"PowerSGD, rank {rank}" for rank in (1, 4)}
INT8 = "int8 + feedback"
INT8_WITHOUT_FEEDBACK = "int8"
FLOAT8 = "float8 e4m3 + feedback"
FOUR_BITS_WITH_FEEDBACK = "4 bits + feedback"
FOUR_BITS = "4 bits"
FOUR_BITS_A_TENSOR = "4 bits, scale a tensor"

# The keys of `convergence_variants.VARIANTS`, as they are listed.
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
