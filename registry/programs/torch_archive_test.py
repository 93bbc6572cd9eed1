"""An archive of torch.export that would unpickle, import, evaluate or run anything is refused.

Each hostile archive is one that PyTorch itself takes, with one thing in it changed.
"""

import functools
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
import torch

from registry.programs import example
from registry.programs.errors import ProgramError
from registry.programs.torch_archive import checked_archive

MODEL = "archive/models/model.json"
WEIGHTS = "archive/data/weights/model_weights_config.json"
CONSTANTS = "archive/data/constants/model_constants_config.json"
EXAMPLES = "archive/data/sample_inputs/model.pt"

Parts = dict[str, bytes]


class _WithConstant(torch.nn.Module):
    def forward(
        self, weights: dict[str, torch.Tensor], inputs: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        logits = inputs["features"] @ weights["weight"].T + torch.tensor([1.0, 2.0, 3.0])
        return {"logits": logits + weights["bias"]}


@functools.cache
def _honest() -> bytes:
    return example.torch_export(_WithConstant())


def _parts() -> Parts:
    with zipfile.ZipFile(io.BytesIO(_honest())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _packed(parts: Parts, compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def _changed(change: Callable[[Any], None], name: str = MODEL) -> bytes:
    """Returns the archive with one of its files of JSON changed."""
    parts = _parts()
    value = json.loads(parts[name])
    change(value)
    return _packed(parts | {name: json.dumps(value).encode()})


def test_what_this_project_makes_is_let_through_and_is_the_same_program() -> None:
    clean = checked_archive(_honest())
    before, after = (torch.export.load(io.BytesIO(x)) for x in (_honest(), clean))
    assert before.graph_module.code == after.graph_module.code
    torch.testing.assert_close(before.constants, after.constants, rtol=0, atol=0)
    assert checked_archive(clean) == clean


def test_guards_are_left_out_and_not_run() -> None:
    def add(model: Any) -> None:
        model["guards_code"] = ["__import__('os').system('true')"]

    clean = _archived(checked_archive(_changed(add)))
    assert clean == _archived(checked_archive(_honest()))
    assert clean["guards_code"] == []


def _archived(archive: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(archive)) as parts:
        return json.loads(parts.read(MODEL))


def _size(expression: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        sizes = model["graph_module"]["graph"]["tensor_values"]["inputs_features"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = expression

    return change


def _call(target: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model["graph_module"]["graph"]["nodes"][-1]["target"] = target

    return change


def _enum(model: Any) -> None:
    entry = model["graph_module"]["module_call_graph"][0]["signature"]
    key = '{"__enum__": true, "fqn": "antigravity:X", "name": "A"}'
    tree = {"type": "builtins.dict", "context": f"[{key}]", "children_spec": []}
    entry["in_spec"] = json.dumps([1, tree])


def _container(model: Any) -> None:
    tree = {"type": "collections.namedtuple", "context": "null", "children_spec": []}
    entry = model["graph_module"]["module_call_graph"][0]["signature"]
    entry["out_spec"] = json.dumps([1, tree])


def _deep(model: Any) -> None:
    value: Any = 0
    for _ in range(200):
        value = [value]
    model["graph_module"]["metadata"] = value


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_size("__import__('os').system('true')"), "would be evaluated as Python"),
        (_size("Symbol('s77').__class__"), "would be evaluated as Python"),
        (_size("open('s77')"), "would be evaluated as Python"),
        (_call("torch.hub.load"), "it calls 'torch.hub.load'"),
        (_call("torch.serialization.os.system"), "it calls 'torch.serialization.os.system'"),
        (_call("torch.ops.aten.from_file.default"), "it calls 'torch.ops.aten.from_file.default'"),
        (_call("torch.ops.hpc.attention_forward.default"), "it calls 'torch.ops.hpc"),
        (_call("_operator.attrgetter"), "it calls '_operator.attrgetter'"),
        (_call("math.perm"), "it calls 'math.perm'"),
        (_enum, "a key is an enum, whose module would be imported"),
        (_container, "it takes or gives a 'collections.namedtuple'"),
        (_deep, "its graph is nested too deeply"),
    ],
)
def test_a_hostile_graph_is_refused(change: Callable[[Any], None], problem: str) -> None:
    with pytest.raises(ProgramError, match=f"is refused: .*{problem}"):
        checked_archive(_changed(change))


def _pickled_constant(config: Any) -> None:
    next(iter(config["config"].values()))["use_pickle"] = True


def _opaque_constant(config: Any) -> None:
    next(iter(config["config"].values()))["path_name"] = "opaque_obj_0"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_pickled_constant, "would be unpickled"),
        (_opaque_constant, "is not in the archive"),
    ],
)
def test_a_hostile_constant_is_refused(change: Callable[[Any], None], problem: str) -> None:
    with pytest.raises(ProgramError, match=f"is refused: constant .*{problem}"):
        checked_archive(_changed(change, CONSTANTS))


class _Exploit:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("unpickled",))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({EXAMPLES: pickle.dumps(_Exploit())}, "example inputs, which would be unpickled"),
        ({WEIGHTS: b'{"config": {"w": {}}}'}, "lists weights, which may be pickled"),
        ({"archive/data/weights/model.pt": b""}, "it holds 'archive/data/weights/model.pt'"),
        ({"archive/data/constants/model.pt": b""}, "it holds 'archive/data/constants/model.pt'"),
        ({"archive/data/constants/custom_obj_0": b""}, "it holds '.*custom_obj_0'"),
        ({"archive/data/constants/../tensor_9": b""}, "it holds '.*tensor_9'"),
        ({"archive/data/aotinductor/model/x.so": b""}, "it holds '.*x.so'"),
        ({"archive/extra/x": b""}, "it holds 'archive/extra/x'"),
        ({"archive/models/other.json": b"{}"}, "it holds 'archive/models/other.json'"),
        ({"/etc/passwd": b""}, "it holds '/etc/passwd'"),
        ({"archive/byteorder": b"big"}, "not in little-endian order"),
        ({"archive/.data/version": b"1" * 101}, "takes 101 bytes"),
    ],
)
def test_a_hostile_file_is_refused(change: Parts, problem: str) -> None:
    with pytest.raises(ProgramError, match=f"is refused: .*{problem}"):
        checked_archive(_packed(_parts() | change))


def test_what_is_compressed_is_not_unpacked() -> None:
    bomb = _parts() | {"archive/data/constants/tensor_7": bytes(10_000_000)}
    with pytest.raises(ProgramError, match="is compressed or encrypted"):
        checked_archive(_packed(bomb, zipfile.ZIP_DEFLATED))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_there_twice_is_refused() -> None:
    file = io.BytesIO(_honest())
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(MODEL, b"{}")
    with pytest.raises(ProgramError, match="it holds 'archive/models/model.json'"):
        checked_archive(file.getvalue())


@pytest.mark.parametrize("name", sorted(_parts().keys() - {"archive/data/constants/tensor_0"}))
def test_a_file_that_lacks_is_named(name: str) -> None:
    parts = _parts()
    del parts[name]
    with pytest.raises(ProgramError, match=f"lacks {name.removeprefix('archive/')}"):
        checked_archive(_packed(parts))


def test_what_is_put_behind_the_archive_is_left_behind() -> None:
    """PyTorch finds the archive's directory in another way than Python: it gets one that is new."""
    clean = checked_archive(_honest())
    with zipfile.ZipFile(io.BytesIO(clean)) as archive:
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert archive.read(entry) == _parts()[entry.filename]
