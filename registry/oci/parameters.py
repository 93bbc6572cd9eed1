"""How many parameters weights are, and of what precision, in ModelPack's words.

Reference: CNCF ModelPack, model-spec: docs/config.md, `paramSize` and `precision`.
"""

from pathlib import Path

from hpc.artifact.v1 import artifact_pb2

from registry.payload import map_file
from registry.weights import views_of

_SCALES = {"Q": 10**15, "T": 10**12, "B": 10**9, "M": 10**6, "K": 10**3}

_PRECISIONS = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "float32": "fp32",
    "float64": "fp64",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
}


def describe_parameters(weights: Path) -> dict[str, str]:
    """Returns `precision` and `paramSize` of weights, of which no more is read than the header.

    Args:
        weights: A safetensors file.

    Raises:
        ArtifactError: It is not one.
        OSError: It cannot be read.
    """
    file = artifact_pb2.File(path=weights.name, size_bytes=weights.stat().st_size)
    tensors = views_of(map_file(weights.parent, file)).values()
    precisions = {_PRECISIONS.get(tensor.dtype.name, tensor.dtype.name) for tensor in tensors}
    described = {"precision": precisions.pop() if len(precisions) == 1 else "mixed"}
    if size := param_size(sum(tensor.size for tensor in tensors)):
        described["paramSize"] = size
    return described


def param_size(count: int) -> str:
    """Returns a number of parameters with at most one digit after the point, such as "6.7B".

    It is empty where there are so few that this way of writing them says none.
    """
    scales = [*_SCALES.items()]
    # 999,950 is rounded to a thousand thousands, which is "1M".
    prefix, scale = next((item for item in scales if count >= 0.99995 * item[1]), scales[-1])
    number = f"{count / scale:.1f}".removesuffix(".0")
    return "" if number == "0" else number + prefix
