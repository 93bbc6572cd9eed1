"""The dispatch rule: preference, override and errors that name what is supported."""

import pytest

from kernels.dispatch import ENVIRONMENT_VARIABLE, UnsupportedKernelError, select_backend

SUPPORT = {
    "cpu": {"cpu": frozenset({"float32"})},
    "triton": {"cuda": frozenset({"float16", "float32"})},
    "reference": {"cpu": frozenset({"float32", "float64"})},
}


def _select(device: str, dtype: str) -> str:
    return select_backend("attention", SUPPORT, device=device, dtype=dtype)


@pytest.fixture(autouse=True)
def no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)


def test_device_and_dtype_choose() -> None:
    assert _select("cpu", "float32") == "cpu"
    assert _select("cuda", "float32") == "triton"
    assert _select("cuda", "float16") == "triton"


def test_environment_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "reference")
    assert _select("cpu", "float32") == "reference"


def test_reference_is_never_a_silent_fallback() -> None:
    with pytest.raises(UnsupportedKernelError, match="float64 on cpu"):
        _select("cpu", "float64")


@pytest.mark.parametrize(("device", "dtype"), [("cpu", "int32"), ("cuda", "int8"), ("tpu", "f8")])
def test_unsupported_names_what_is_supported(device: str, dtype: str) -> None:
    with pytest.raises(UnsupportedKernelError) as caught:
        _select(device, dtype)
    message = str(caught.value)
    assert f"attention does not support {dtype} on {device}" in message
    assert "cpu on cpu: float32; triton on cuda: float16, float32" in message


def test_override_that_cannot_serve_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "triton")
    with pytest.raises(UnsupportedKernelError, match="with HPC_KERNEL_BACKEND=triton"):
        _select("cpu", "float32")


def test_unknown_backend_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "Triton")
    with pytest.raises(UnsupportedKernelError, match="must be one of cpu, triton, cuda, reference"):
        _select("cpu", "float32")
