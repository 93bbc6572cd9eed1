"""The CUDA path as far as it goes without a GPU: cubins, their metadata and the launcher.

A fake driver, compiled here, records what the launcher asks for.
"""

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kernels import cubin_loader
from kernels.attention import cubin_resources, triton_kernels
from kernels.attention.contract import Extras, Options, Sizes
from kernels.attention.triton_kernels import ALIBI, DECODE, FULL, PLAIN
from kernels.testing import cubins, fake_driver

ARCHS = cubins.archs()
# Shared memory of a block on the least GPU that runs the cubins of an architecture: those of sm_80
# run on sm_86 and sm_89, which have less than an A100.
SHARED_BYTES = {80: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024}

SIZES = Sizes(batch=2, seq_q=200, seq_k=300, num_heads=4, num_kv_heads=2, head_dim=40)
CAUSAL = Options(softmax_scale=0.25, window_right=0)
ROTARY = CAUSAL._replace(rotary_dim=24, rotary_interleaved=True)

# In the order of problem.h.
WORKSPACE = ("rotated_q", "rotated_k")
FORWARD = ("q", "k", "v", "out", "lse", *WORKSPACE, *Extras._fields)
GRADIENTS = ("grad_out", "grad_lse", "grad_q", "grad_k", "grad_v", "grad_slopes", "delta")
BACKWARD = (*FORWARD[:5], *GRADIENTS, *WORKSPACE, *Extras._fields)
# Distinct and aligned to 16 bytes; nothing is read from them.
ADDRESSES = {name: 0x10000 * (i + 1) for i, name in enumerate(BACKWARD)}
OPTIONAL = {*Extras._fields, *WORKSPACE, "grad_lse", "grad_slopes"}
ROPE = ("rope_cos", "rope_sin")


class Call(NamedTuple):
    """One call of the native module; of the OPTIONAL arrays it has those that are `given`."""

    function: str = "forward_triton"
    dtype: str = "bfloat16"
    sizes: Sizes = SIZES
    options: Options = CAUSAL
    given: tuple[str, ...] = ()
    device: int = 0

    def addresses(self) -> dict[str, int]:
        """The address of each array in the order of the struct, 0 for one that is not given."""
        names = FORWARD if self.function.startswith("forward") else BACKWARD
        absent = OPTIONAL - set(self.given)
        return {name: 0 if name in absent else ADDRESSES[name] for name in names}

    def arguments(self, addresses: dict[str, int]) -> dict[str, Any]:
        """The arguments of the native function, with other addresses of some arrays."""
        return {
            "dtype": self.dtype,
            "sizes": self.sizes,
            "options": self.options,
            "tensors": list((self.addresses() | addresses).values()),
            "device": self.device,
        }


driver = fake_driver.fixture()


def _directory() -> Path:
    return cubin_loader.directory("kernels.attention")


@pytest.fixture(scope="module")
def by_name() -> dict[tuple[str, int], dict[str, Any]]:
    """The metadata of each cubin by (name, arch)."""
    return cubins.by_name(triton_kernels)


def _run(
    calls: list[Call],
    tmp_path: Path,
    driver: Path | str,
    addresses: dict[str, int] | None = None,
    instead: Sequence[dict[str, Any]] = (),
    **env: str,
) -> tuple[list[str], str]:
    """Makes native calls against the fake driver; returns its log and the error output.

    Args:
      calls: what to call.
      tmp_path: for the log, and the metadata of `instead`.
      driver: the fake driver, or another library.
      addresses: of arrays, in place of ADDRESSES.
      instead: metadata of cubins to call, in place of those built.
      **env: further environment variables.
    """
    if instead:
        metadata = tmp_path / cubin_loader.METADATA_FILE
        metadata.write_text(json.dumps({"cubins": instead}))
    return fake_driver.call(
        triton_kernels,
        [(call.function, call.arguments(addresses or {})) for call in calls],
        driver=driver,
        log=tmp_path / "log",
        directory=tmp_path if instead else None,
        **env,
    )


def _arguments(launch: dict[str, str], variant: triton_kernels.Variant) -> dict[str, str]:
    """The arguments of a launch by the kernel's own parameters, without the scratch at the end."""
    values = launch["arguments"].rstrip(",").split(",")
    assert values[-2:] == ["0", "0"]
    return dict(zip(variant.signature, values[:-2], strict=True))


def _expected_arguments(call: Call) -> dict[str, str]:
    """What the launcher must pass for a call, but for `attention_rotate`."""
    addresses = call.addresses()
    sizes, options = call.sizes, call.options
    everywhere = sizes.seq_q + sizes.seq_k
    left, right = (everywhere if side < 0 else side for side in options[1:3])
    threshold = int(options.dropout_rate * 2**32)
    values: dict[str, float] = {f"{name}_ptr": value for name, value in addresses.items()}
    values |= sizes._asdict() | options._asdict()
    values |= {"window_left": left, "window_right": right}
    values |= {"dropout_threshold": threshold - 2**32 if threshold >= 2**31 else threshold}
    values |= {"dropout_scale": 1 / (1 - options.dropout_rate)}
    values |= {"has_alibi": addresses["alibi_slopes"] != 0}
    values |= {"has_segments": addresses["q_segments"] != 0}
    values |= {f"has_{name}": addresses.get(name, 0) != 0 for name in ("grad_lse", "grad_slopes")}
    if addresses["rotated_q"]:
        values |= {"q_ptr": addresses["rotated_q"], "k_ptr": addresses["rotated_k"]}
    return {name: f"{float(value):.9g}" for name, value in values.items()}


def _assert_launched(
    launch: dict[str, str], name: str, call: Call, expected: dict[str, str] | None = None
) -> None:
    """Asserts the kernel, the block and the arguments of a launch."""
    variant = _variant(name)
    expected = _expected_arguments(call) | (expected or {})
    assert launch["function"] == variant.kernel.__name__
    assert launch["block"] == f"{32 * variant.num_warps},1,1"
    assert launch["stream"] == "0x777"
    got = {k: f"{float(v):.9g}" for k, v in _arguments(launch, variant).items()}
    assert got == {k: expected[k] for k in variant.signature}


def _variant(name: str, arch: int = 90) -> triton_kernels.Variant:
    return next(v for v in triton_kernels.VARIANTS if v.name == name and arch in v.archs)


def _grid(name: str, block: str, seq_len: int, num_heads: int) -> str:
    blocks = -(-seq_len // _variant(name).constexprs[block])
    return f"{blocks * num_heads * SIZES.batch},1,1"


def test_every_variant_is_compiled_for_every_architecture(
    by_name: dict[tuple[str, int], dict[str, Any]],
) -> None:
    compiled = [(v.name, a) for v in cubins.compiled(triton_kernels) for a in v.archs]
    assert len(compiled) == len(set(compiled))
    wanted = {(name, arch) for name, arch in compiled if arch in ARCHS}
    assert wanted <= by_name.keys()
    assert {arch for _, arch in wanted} == set(ARCHS)


@pytest.mark.parametrize("arch", ARCHS)
def test_metadata_agrees_with_the_kernels(arch: int) -> None:
    for variant in cubins.compiled(triton_kernels):
        if arch not in variant.archs:
            continue
        metadata = cubins.agreeing(triton_kernels, variant, arch)
        assert metadata["shared_bytes"] <= SHARED_BYTES[arch], variant.name


def test_no_cubin_spills_more_than_recorded() -> None:
    recorded = cubin_resources.read(Path(__file__).with_name("cubin_resources.json"))
    found = cubin_resources.from_metadata(cubin_loader.metadata(_directory()))
    how = "write it again with `python -m kernels.attention.cubin_resources`"
    assert {(n, int(a)) for n in recorded for a in recorded[n]} == {
        (v.name, arch) for v in triton_kernels.VARIANTS for arch in v.archs
    }, how
    worse = [
        f"{name} for sm_{arch}: {resources}, recorded {recorded[name][arch]}"
        for name, archs in found.items()
        for arch, resources in archs.items()
        if resources.spill_bytes > recorded[name][arch].spill_bytes
    ]
    assert not worse, how


def test_forward_launch(tmp_path: Path, driver: Path) -> None:
    call = Call()
    log, stderr = _run([call], tmp_path, driver)
    (launch,) = fake_driver.launches(log)
    assert stderr == ""
    name = "attention_fwd_plain_bfloat16_d64"
    _assert_launched(launch, name, call)
    assert launch["grid"] == _grid(name, "BLOCK_Q", SIZES.seq_q, SIZES.num_heads)


def test_every_option_reaches_the_kernel(tmp_path: Path, driver: Path) -> None:
    options = Options(0.5, 70, 3, 30.0, 0.75, 24, True)
    call = Call(options=options, given=Extras._fields)
    log, stderr = _run([call], tmp_path, driver)
    (launch,) = fake_driver.launches(log)
    assert stderr == ""
    _assert_launched(launch, "attention_fwd_decode_bfloat16_d64", call)


def test_rotation_is_a_pass_of_its_own_with_workspace(tmp_path: Path, driver: Path) -> None:
    call = Call(options=ROTARY, given=(*WORKSPACE, *ROPE))
    log, stderr = _run([call], tmp_path, driver)
    *rotations, launch = fake_driver.launches(log)
    assert stderr == ""
    _assert_launched(launch, "attention_fwd_plain_bfloat16_d64", call)
    heads = {"q": SIZES.num_heads, "k": SIZES.num_kv_heads}
    for x, rotation in zip(heads, rotations, strict=True):
        _assert_rotated(rotation, x, f"rotated_{x}", heads[x], 1)


def _assert_rotated(launch: dict[str, str], x: str, to: str, num_heads: int, way: int) -> None:
    of_queries = x.endswith("q")
    seq_len = SIZES.seq_q if of_queries else SIZES.seq_k
    expected = {
        "x_ptr": ADDRESSES[x],
        "rotated_ptr": ADDRESSES[to],
        "seq_len": seq_len,
        "num_heads": num_heads,
        "first_row": max(SIZES.seq_k - SIZES.seq_q, 0) if of_queries else 0,
        "direction": way,
    }
    name = "attention_rotate_bfloat16_d64"
    call = Call(options=ROTARY, given=ROPE)
    _assert_launched(launch, name, call, {k: f"{v:.9g}" for k, v in expected.items()})
    assert launch["grid"] == _grid(name, "BLOCK_ROWS", seq_len * num_heads, 1)


def test_backward_launches_in_order(tmp_path: Path, driver: Path) -> None:
    given = ("alibi_slopes", "grad_slopes", "grad_lse", *WORKSPACE, *ROPE)
    call = Call("backward_triton", options=ROTARY, given=given)
    log, stderr = _run([call], tmp_path, driver)
    assert stderr == ""
    launches = fake_driver.launches(log)
    _assert_rotated(launches[0], "q", "rotated_q", SIZES.num_heads, 1)
    _assert_rotated(launches[1], "k", "rotated_k", SIZES.num_kv_heads, 1)
    expected = (
        ("attention_bwd_delta_bfloat16_d64", "BLOCK_Q", SIZES.seq_q, SIZES.num_heads),
        ("attention_bwd_q_alibi_bfloat16_d64", "BLOCK_Q", SIZES.seq_q, SIZES.num_heads),
        ("attention_bwd_kv_alibi_bfloat16_d64", "BLOCK_K", SIZES.seq_k, SIZES.num_kv_heads),
    )
    for launch, (name, block, seq_len, num_heads) in zip(launches[2:5], expected, strict=True):
        _assert_launched(launch, name, call)
        assert launch["grid"] == _grid(name, block, seq_len, num_heads)
    _assert_rotated(launches[5], "grad_q", "grad_q", SIZES.num_heads, -1)
    _assert_rotated(launches[6], "grad_k", "grad_k", SIZES.num_kv_heads, -1)
    assert len(launches) == 7


def test_the_hopper_backend_refuses_what_it_does_not_serve(tmp_path: Path, driver: Path) -> None:
    for call in (Call("forward_cuda", dtype="float32"), Call("forward_cuda")):
        log, stderr = _run([call], tmp_path, driver)
        assert "ValueError: attention" in stderr
        assert fake_driver.launches(log) == []


def _flavour_cases() -> Iterator[tuple[Call, int]]:
    """Calls and the flavour that they need."""
    for dtype in ("float16", "bfloat16", "float32"):
        for head_dim in (8, 32, 40, 64, 72, 128, 136, 256):
            plain = Call(dtype=dtype, sizes=SIZES._replace(head_dim=head_dim))
            yield plain, PLAIN
            yield plain._replace(given=("alibi_slopes",)), ALIBI
            yield plain._replace(options=Options(softmax_scale=0.0)), ALIBI
            yield plain._replace(given=("q_segments", "kv_segments")), FULL
            yield plain._replace(options=CAUSAL._replace(softcap=30.0)), FULL
            dropout = CAUSAL._replace(dropout_rate=0.1)
            yield plain._replace(options=dropout, given=("dropout_seeds",)), FULL
            yield plain._replace(sizes=plain.sizes._replace(seq_q=16)), DECODE
            yield plain._replace(options=CAUSAL._replace(rotary_dim=8), given=ROPE), DECODE


def _write_cubin(variant: triton_kernels.Variant, directory: Path) -> dict[str, Any]:
    """Writes a cubin for sm_90 that is a header and the name of a variant; returns its metadata."""
    (directory / variant.name).write_bytes(_image(variant.name))
    return {
        "name": variant.name,
        "arch": 90,
        "arch_specific": True,
        "file": variant.name,
        "symbol": variant.kernel.__name__,
        "parameters": [[name, kind.split(":")[0]] for name, kind in variant.signature.items()],
        "num_scratch_parameters": 2,
        "num_warps": variant.num_warps,
        "shared_bytes": 0,
        "constants": variant.constexprs,
    }


def _image(name: str) -> bytes:
    """An ELF file whose sections, of which it has none, begin after a name."""
    header = struct.Struct("<16s2HI3QI6H")
    sections = header.size + len(name)
    return header.pack(b"\x7fELF", 0, 0, 0, 0, 0, sections, *[0] * 7) + name.encode()


def test_flavour_is_chosen_by_the_table(tmp_path: Path, driver: Path) -> None:
    cases = list(_flavour_cases())
    # A device for each call, so that each loads its cubin.
    calls = [call._replace(device=device) for device, (call, _) in enumerate(cases)]
    written = [_write_cubin(v, tmp_path) for v in triton_kernels.VARIANTS if 90 in v.archs]
    log, stderr = _run(calls, tmp_path, driver, instead=written)
    assert stderr == ""
    loaded = [line for line in log if line.startswith("load")]
    for (call, needed), load in zip(cases, loaded, strict=True):
        block_d = next(d for d in (32, 64, 128, 256) if d >= call.sizes.head_dim)
        flavour = triton_kernels.choose_flavour(needed, call.dtype, block_d)
        name = triton_kernels.variant_name("attention_fwd", flavour, call.dtype, block_d)
        assert load == f"load fingerprint={_fingerprint(_image(name))}", (call, name)


def _fingerprint(image: bytes) -> int:
    """FNV-1a, as in fake_cuda.c."""
    digest = 2166136261
    for byte in image:
        digest = (digest ^ byte) * 16777619 & 0xFFFFFFFF
    return digest


def test_shared_memory_is_that_of_the_cubin(
    tmp_path: Path, driver: Path, by_name: dict[tuple[str, int], dict[str, Any]]
) -> None:
    log, _ = _run([Call(sizes=SIZES._replace(head_dim=128))], tmp_path, driver)
    shared = by_name["attention_fwd_plain_bfloat16_d128", 90]["shared_bytes"]
    assert shared > 48 * 1024
    assert f"attribute function=attention_fwd 8={shared}" in log
    assert fake_driver.launches(log)[0]["shared"] == str(shared)


def test_each_device_loads_a_kernel_once(tmp_path: Path, driver: Path) -> None:
    log, _ = _run([Call(device=device) for device in (0, 1, 0, 1)], tmp_path, driver)
    assert len([line for line in log if line.startswith("load")]) == 2
    assert [line for line in log if line.startswith("retain")] == [
        "retain device=0",
        "retain device=1",
    ]
    assert len(fake_driver.launches(log)) == 4
    pushes = [line for line in log if line.startswith("push")]
    assert len(pushes) == log.count("pop") == 6
    assert pushes[-2:] == ["push context=0x1000", "push context=0x1001"]


def test_nothing_is_launched_for_an_empty_batch(tmp_path: Path, driver: Path) -> None:
    log, stderr = _run([Call(sizes=SIZES._replace(batch=0))], tmp_path, driver)
    assert stderr == "" and not fake_driver.launches(log)


@pytest.mark.parametrize(
    ("capability", "runs"),
    [(80, 1), (86, 1), (89, 1), (90, 1), (100, 1), (75, 0), (103, 0)],
)
def test_cubin_is_chosen_by_compute_capability(
    capability: int,
    runs: int,
    tmp_path: Path,
    driver: Path,
    by_name: dict[tuple[str, int], dict[str, Any]],
) -> None:
    # The one for sm_90 as if it were for each, since a build may have no others.
    cubin = by_name["attention_fwd_plain_bfloat16_d64", 90]
    cubin = cubin | {"file": str(_directory() / cubin["file"])}
    log, stderr = _run(
        [Call()],
        tmp_path,
        driver,
        instead=[cubin | {"arch": a, "arch_specific": a >= 90} for a in triton_kernels.ARCHS],
        FAKE_CUDA_CAPABILITY=str(capability),
    )
    assert len(fake_driver.launches(log)) == runs
    if not runs:
        wanted = f"not compiled for this GPU, sm_{capability}; it is for sm_80, sm_90, sm_100"
        assert wanted in stderr


def test_no_driver_is_a_clean_error(tmp_path: Path) -> None:
    _, stderr = _run([Call()], tmp_path, "/nonexistent/libcuda.so")
    assert "CudaError: no NVIDIA driver: /nonexistent/libcuda.so" in stderr


@pytest.mark.parametrize("function", ["cuInit", "cuModuleLoadData", "cuLaunchKernel"])
def test_failures_of_the_driver_are_named(function: str, tmp_path: Path, driver: Path) -> None:
    _, stderr = _run([Call()], tmp_path, driver, FAKE_CUDA_FAIL=function)
    assert "CudaError: " in stderr
    assert "no kernel image is available (CUDA error 209)" in stderr


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (Call(dtype="float64"), "takes float16, bfloat16 or float32"),
        (
            Call(sizes=SIZES._replace(head_dim=264)),
            "head_dim up to 256 that is a multiple of 8, got 264",
        ),
        (
            Call(sizes=SIZES._replace(head_dim=20)),
            "head_dim up to 256 that is a multiple of 8, got 20",
        ),
        (
            Call("backward_triton", options=ROTARY, given=ROPE),
            "the backward pass of RoPE needs the workspace rotated_q and rotated_k",
        ),
    ],
)
def test_unsupported_problems_are_named(
    call: Call, message: str, tmp_path: Path, driver: Path
) -> None:
    log, stderr = _run([call], tmp_path, driver)
    assert "ValueError: attention on CUDA" in stderr and message in stderr
    assert not fake_driver.launches(log)


def test_misaligned_pointer_is_named(tmp_path: Path, driver: Path) -> None:
    log, stderr = _run([Call()], tmp_path, driver, addresses={"k": ADDRESSES["k"] + 2})
    assert "k_ptr must be aligned to 16 bytes" in stderr
    assert not fake_driver.launches(log)
