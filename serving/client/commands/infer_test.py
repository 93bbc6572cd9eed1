"""`infer` against real servers: what it sends, prints and writes, and how it ends."""

import io
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from inference import grpc_service_pb2 as oip
from PIL import Image
from typer.testing import Result

from serving.client.testing.command_line import free_address, only_error, run
from serving.client.testing.echo_server import echo_server
from serving.client.testing.scripted_server import Step, scripted_server

IMAGE = {"name": "image", "datatype": "FP32", "shape": [-1, 2]}
WORDS = {"name": "words", "datatype": "BYTES", "shape": [-1]}


def infer(address: str, *arguments: str | Path, stdin: bytes = b"") -> Result:
    return run("infer", "--address", address, "--model", "echo", *arguments, stdin=stdin)


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


X = np.array([[0.5, 1.0], [-2.0, 3.0]], np.float32)
X_JSON = {"name": "image", "datatype": "FP32", "shape": [2, 2], "data": [0.5, 1.0, -2.0, 3.0]}


@pytest.mark.parametrize(
    "content",
    [
        npy(X),
        npz(image=X),
        json.dumps(X.tolist()).encode(),
        json.dumps({"image": X.tolist()}).encode(),
        json.dumps({"inputs": [X_JSON]}).encode(),
    ],
    ids=["npy", "npz", "json-list", "json-by-name", "json-request"],
)
def test_infer_takes_each_form_from_a_file_and_from_stdin(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with echo_server([IMAGE]) as address:
        results = [
            infer(address, "--json", "--input", tmp_path / "x"),
            infer(address, "--json", "--input", "-", stdin=content),
        ]
    for result in results:
        assert result.exit_code == 0, result.output
        reply = json.loads(result.stdout)
        assert reply == {"model_name": "echo", "model_version": "1.2.3", "outputs": [X_JSON]}


def test_infer_sends_several_inputs_and_writes_outputs(tmp_path: Path) -> None:
    halves = np.array([[1.5]], ml_dtypes.bfloat16)
    arrays = {"file": np.array([1, 2]), "words": np.array([b"a", "\u00e9".encode()])}
    inputs = [
        {"name": "file", "datatype": "INT64", "shape": [2], "data": [1, 2]},
        {"name": "words", "datatype": "BYTES", "shape": [2], "data": ["a", "\u00e9"]},
        {"name": "halves", "datatype": "BF16", "shape": [1, 1], "data": [1.5]},
    ]
    (tmp_path / "x.json").write_text(json.dumps({"inputs": inputs}))
    with echo_server() as address:
        result = infer(address, "--input", tmp_path / "x.json", "--output", tmp_path / "y.npz")
    assert result.exit_code == 0, result.output
    assert "words BYTES [2]\n['a' '\u00e9']" in result.stdout
    with np.load(tmp_path / "y.npz", allow_pickle=False) as written:
        assert sorted(written) == ["file", "halves", "words"]
        for name, array in arrays.items():
            np.testing.assert_array_equal(written[name], array)
        np.testing.assert_array_equal(written["halves"], halves.astype(np.float32))


def test_infer_prints_classes_of_logits(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(npy(np.eye(10, dtype=np.float32)[[4, 0, 7]]))
    logits = {"name": "logits", "datatype": "FP32", "shape": [-1, 10]}
    with echo_server([logits]) as address:
        result = infer(address, "--input", tmp_path / "x.npy")
    lines = result.stdout.splitlines()
    assert (result.exit_code, lines[0], lines[-1]) == (0, "logits FP32 [3, 10]", "classes 4 0 7")


def classified(*strings: str) -> oip.ModelInferResponse:
    reply = oip.ModelInferResponse(model_name="echo", model_version="1")
    tensor = reply.outputs.add(name="y", datatype="BYTES", shape=[1, len(strings)])
    tensor.contents.bytes_contents.extend(string.encode() for string in strings)
    return reply


def test_infer_asks_the_server_for_names_of_classes(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(npy(X))
    metadata = oip.ModelMetadataResponse(inputs=[IMAGE], outputs=[{"name": "y"}])
    reply = classified("0.9:3:four: of clubs", "0.1:1")
    scripts: dict[str, list[Step]] = {"ModelMetadata": [metadata], "ModelInfer": [reply]}
    with scripted_server(scripts) as server:
        result = infer(server.address, "--input", tmp_path / "x.npy", "--top-k", "2")
        request = oip.ModelInferRequest.FromString(server.received["ModelInfer"][0].request)
    assert request.outputs[0].parameters["classification"].int64_param == 2
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert rows[1:] == ["y 0 four: of clubs 3 0.9", "y 0 1 1 0.1"]
    with scripted_server({**scripts, "ModelInfer": [classified("nonsense")]}) as server:
        result = infer(server.address, "--input", tmp_path / "x.npy", "--top-k", "2")
    assert "output 'y' has no classes but 'nonsense'" in only_error(result, 2)


def test_infer_says_all_that_it_was_told(tmp_path: Path) -> None:
    document = {"inputs": [X_JSON], "outputs": [{"name": "y", "parameters": {"p": 1}}], "id": "a"}
    (tmp_path / "x.json").write_text(json.dumps(document | {"parameters": {"timeout": 5}}))
    metadata = oip.ModelMetadataResponse(inputs=[IMAGE])
    scripts: dict[str, list[Step]] = {"ModelMetadata": [metadata], "ModelInfer": [classified("v")]}
    with scripted_server(scripts) as server:
        arguments = ["--input", tmp_path / "x.json", "--version", "7", "--priority", "2"]
        assert infer(server.address, *arguments).exit_code == 0
        infer(server.address, *arguments, "--request-id", "b", "--only", "y")
        first, second = (
            oip.ModelInferRequest.FromString(call.request) for call in server.received["ModelInfer"]
        )
    assert (first.model_version, first.id, second.id) == ("7", "a", "b")
    assert first.parameters["timeout"].int64_param == 5
    assert first.parameters["priority"].uint64_param == 2
    assert first.outputs[0].parameters["p"].int64_param == 1
    assert not second.outputs[0].parameters


def picture(format_name: str) -> bytes:
    content = io.BytesIO()
    Image.new("L", (8, 8), 200).save(content, format_name)
    return content.getvalue()


@pytest.mark.parametrize("format_name", ["PNG", "JPEG"])
def test_a_picture_goes_by_rest(format_name: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(picture(format_name))
    address = free_address()
    result = run("infer", "--image", tmp_path / "x", "--rest-address", address)
    assert f"{address}: no REST there" in only_error(result, 1)
    result = run("infer", "--image", tmp_path / "x", "--output", tmp_path / "y.npz")
    assert "a picture goes by REST, which has neither" in only_error(result, 2)


def npy_of_shape(shape: str, descr: str = "'<f8'") -> bytes:
    """A file that says it holds `descr` of `shape`, and holds nothing."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


BAD_FILES = {
    "text": (b"no array", "cannot read"),
    "empty": (b"", "cannot read"),
    "cut": (npy(np.zeros(9))[:-1], "cannot read"),
    "cut_archive": (npz(a=X)[:-20], "cannot read"),
    "huge": (npy_of_shape("(1000000000000000,)"), "Unable to allocate"),
    "negative": (npy_of_shape("(-1,)"), "cannot read"),
    "open": (npy_of_shape("((((("), "cannot read"),
    "boolean": (npy_of_shape("(True,)"), "cannot read"),
    "unhashable": (npy_of_shape("{[]: 1}"), "cannot read"),
    "typeless": (npy_of_shape("(1,)", descr="()"), "cannot read"),
    "deep": (npy_of_shape(f"({'-' * 3000}1,)"), "cannot read"),
    "objects": (npy_of_shape("(1,)", descr="'|O'"), "Object arrays cannot be loaded"),
    "void": (npy(np.zeros(1, "V4")), "input 'image' is |V4; expected one of BOOL"),
    "record": (npy(np.zeros(1, [("a", "<f4")])), "input 'image' is [('a', '<f4')]; expected one"),
    "complex": (npy(np.zeros(1, complex)), "input 'image' is complex128; expected one of BOOL"),
    "words": (npy(np.array(["a"])), "got [('image', 'BYTES')], expected [('image', 'FP32')]"),
    "deep_json": (b"[" * 100_000, "cannot read"),
    "nested_json": (b"[" * 900 + b"]" * 900, "input 'image' is no FP32 array"),
    "ragged": (b"[[1], [1, 2]]", "input 'image' is no FP32 array"),
    "other_name": (b'{"x": [1]}', "the model has no input 'x'; it has 'image'"),
    "other_value": (b'["a"]', "input 'image' is no FP32 array: it has the value 'a'"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_what_cannot_be_sent_is_one_line(name: str, tmp_path: Path) -> None:
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with echo_server([IMAGE]) as address:
        result = infer(address, "--input", tmp_path / name)
    assert message in only_error(result, 2)


def test_what_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    for file, reason in {
        "absent": "No such file or directory",
        "x" * 300: "File name too long",
        "directory": "Is a directory",
    }.items():
        error = only_error(infer("127.0.0.1:1", "--input", tmp_path / file), 2)
        assert f"as .npy, .npz, PNG, JPEG or JSON: {reason}" in error


def test_arrays_that_do_not_fit_the_model_are_refused_with_what_does(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(npy(X))
    with echo_server([IMAGE, WORDS]) as address:
        error = only_error(infer(address, "--input", tmp_path / "x.npy"), 2)
        assert error.startswith("the model has 2 inputs ('image', 'words'); give them by name")
        result = infer(address, "--input", tmp_path / "x.npy", "--model", "other")
        assert only_error(result, 2) == "unknown model 'other' (NOT_FOUND)"
    result = run("infer", "--input", tmp_path / "x.npy")
    assert "--model is missing" in only_error(result, 2)


def test_outputs_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    document = {"inputs": [{"name": "w", "datatype": "BYTES", "shape": [1], "data": ["a\0"]}]}
    (tmp_path / "x.json").write_text(json.dumps(document))
    with echo_server() as address:
        arguments = ["--input", tmp_path / "x.json", "--output"]
        error = only_error(infer(address, *arguments, tmp_path / "y.npz"), 2)
        assert "output 'w' has a string that ends with a zero byte" in error
        error = only_error(infer(address, *arguments, tmp_path / "no" / "y.npz"), 2)
        assert error.endswith("No such file or directory")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.json"]


def test_what_a_strange_server_answers_is_printed(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(npz(x=X))
    reply = oip.ModelInferResponse(model_name="\x1b[31m")
    for name, shape in {"logits": [3, 0], "a\x1b[31m\n": [0]}.items():
        reply.outputs.add(name=name, datatype="FP32", shape=shape)
    with scripted_server({"ModelInfer": [reply]}) as server:
        result = infer(server.address, "--input", tmp_path / "x.npz")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "logits FP32 [3, 0]"
    assert r"a\x1b[31m\n FP32 [0]" in lines
    assert not any(line.startswith("classes") for line in lines)
    assert "\x1b" not in result.stdout


def test_numbers_that_are_not_finite_are_null_in_json(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(npz(x=np.array([np.nan, np.inf, 1.0])))
    with echo_server() as address:
        result = infer(address, "--json", "--input", tmp_path / "x.npz")
    assert json.loads(result.stdout)["outputs"][0]["data"] == [None, None, 1.0]
    assert "NaN" not in result.stdout
