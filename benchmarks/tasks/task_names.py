"""What the tasks are called: known before PyTorch is imported."""

# The keys of `tasks.TASKS`.
TASK_NAMES = ("digits", "digits-cnn", "bytes")
