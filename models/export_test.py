"""Programs are the same for the same model, and hold neither weights nor traces of this machine."""

import io
import zipfile
from collections.abc import Callable

import jax.export
import pytest

from models.architecture import Model, parse_model
from models.flax.export import export as export_flax
from models.mlp.cases import CASES
from models.torch.export import export as export_torch

MODEL = parse_model("mlp", CASES["rotary"])

Export = Callable[[Model], bytes]


def _text(content: bytes) -> bytes:
    """Returns what is in a program, unpacked where it is packed."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


@pytest.mark.parametrize("export", [export_flax, export_torch])
def test_programs_have_no_trace_of_how_they_were_made(export: Export) -> None:
    content = export(MODEL)
    assert content == export(MODEL)
    text = _text(content)
    for trace in (b".py", b"/tmp", b"/home", b"site-packages", b"torch_network", b"flax_network"):
        assert trace not in text


def test_stablehlo_is_of_float32_on_every_device() -> None:
    exported = jax.export.deserialize(bytearray(export_flax(MODEL)))
    text = exported.mlir_module()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert products
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)
    assert exported.platforms == ("cpu", "cuda")
    assert not exported.disabled_safety_checks
