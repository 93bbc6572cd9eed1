"""The activation functions by name."""

from typing import Literal

# "gelu" is exact, by erf; "gelu_tanh" its approximation; "squared_relu" is max(x, 0)^2.
Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "squared_relu", "tanh", "identity"]

# Of gates, to [0, 1].
Gate = Literal["sigmoid", "hard_sigmoid"]
