#!/usr/bin/env bash
# Builds the kernels without Bazel and runs their GPU tests.
#
#   infra/gpu/run.sh                           build for this machine's GPU, then pytest -m gpu
#   infra/gpu/run.sh -k bfloat16               further arguments go to pytest
#   infra/gpu/run.sh --build-only --out DIR    build only, for sm_80, sm_90 and sm_100; needs no GPU
#
# Needs g++ and a Python 3.11 or 3.12 ($PYTHON, default python3) with torch, triton, jax, pybind11
# and pytest; nvcc for the kernels of Hopper. $HPC_CUDA_ARCHS ("80 90") overrides the architectures.
# The output, build/gpu unless given, mirrors the package paths: with it and the checkout on
# PYTHONPATH, `kernels.attention` is complete. A second run builds only what has changed.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
python="${PYTHON:-python3}"
out="$root/build/gpu"
build_only=false
pytest_args=()
packages=(kernels/{attention,linear_attention,optimizer_step,quantize})

fail() {
  echo "error: $*" >&2
  exit 2
}

usage() {
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

while (($#)); do
  case "$1" in
    --build-only) build_only=true ;;
    --out)
      (($# > 1)) || fail "--out needs a directory"
      out="$(realpath -m "$2")"
      shift
      ;;
    -h | --help) usage && exit 0 ;;
    *) pytest_args+=("$1") ;;
  esac
  shift
done

check_tools() {
  command -v g++ >/dev/null || fail "g++ not found; on Debian: apt-get install g++"
  command -v "$python" >/dev/null || fail "$python not found; set PYTHON to a Python 3.11 or 3.12"
  "$python" - <<'PY' || exit 2
import importlib.util
import sys

if sys.version_info[:2] not in ((3, 11), (3, 12)):
    sys.exit(f"error: Python 3.11 or 3.12 is needed, {sys.executable} is {sys.version.split()[0]}")
wanted = ("torch", "triton", "jax", "pybind11", "pytest")
if missing := [name for name in wanted if importlib.util.find_spec(name) is None]:
    sys.exit(f"error: {sys.executable} lacks {', '.join(missing)}; pip install {' '.join(missing)}")
PY
}

# The compute capabilities to compile for, such as "80 90".
choose_archs() {
  if [[ -n "${HPC_CUDA_ARCHS:-}" ]]; then
    echo "$HPC_CUDA_ARCHS"
  elif "$build_only"; then
    echo 80 90 100
  else
    "$python" - <<'PY' || fail "no GPU found by PyTorch; --build-only builds without one"
import sys
import torch

if not torch.cuda.is_available():
    sys.exit(1)
print(*sorted({"{}{}".format(*torch.cuda.get_device_capability(i)) for i in range(torch.cuda.device_count())}))
PY
  fi
}

compile_object() { # compile_object SOURCE OBJECT
  local options=()
  [[ "$1" == kernels/optimizer_step/* ]] && options=(-ffp-contract=off) # as in its BUILD file
  g++ -std=c++17 -O2 -fPIC -fvisibility=hidden -Wall ${options[@]+"${options[@]}"} -I. \
    "${includes[@]/#/-isystem}" -c "$1" -o "$2"
}

# Compiles PACKAGE/_native.so from the C++ sources of the package and of kernels/native.
build_extension() { # build_extension PACKAGE
  local package="$1" source object objects=() pids=() sources=(kernels/native/*.cc)
  shopt -s nullglob
  sources+=("$package"/*.cc)
  shopt -u nullglob
  for source in "${sources[@]}"; do
    object="$out/objects/${source//\//_}.o"
    objects+=("$object")
    [[ "$object" -nt "$source" && -z "$(find kernels -name '*.h' -newer "$object")" ]] && continue
    while (($(jobs -pr | wc -l) >= $(nproc))); do sleep 0.05; done
    compile_object "$source" "$object" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid" || fail "compilation of $package failed, see above"
  done
  # Under another name first: a running process may have the old file mapped.
  g++ -shared "${objects[@]}" -Wl,-Bsymbolic -ldl -pthread -o "$out/$package/_native.so.new"
  mv "$out/$package/_native.so.new" "$out/$package/_native.so"
}

# Compiles PACKAGE/triton_kernels.py to PACKAGE/triton_cubins.
build_triton_cubins() { # build_triton_cubins PACKAGE
  local package="$1" stamp="$out/$1/triton_cubins/metadata.json" source="$1/triton_kernels.py" arch
  local compiler=infra/bazel/triton_compile.py built="$out/$1/triton_cubins.archs"
  [[ -f "$source" ]] || return 0
  if [[ -f "$stamp" && "$(cat "$built" 2>/dev/null)" == "$archs" &&
    -z "$(find kernels/*/triton_*.py "$compiler" -newer "$stamp")" ]]; then
    return 0
  fi
  rm -rf "$out/$package/triton_cubins"
  "$python" "$compiler" --src "$source" --out "$out/$package/triton_cubins" ${archs_flags[@]+"${archs_flags[@]}"}
  echo "$archs" >"$built"
}

# Compiles PACKAGE/cuda.cu to PACKAGE/cuda_cubins, for Hopper.
build_cuda_cubins() { # build_cuda_cubins PACKAGE
  local source="$1/cuda.cu" out_dir="$out/$1/cuda_cubins" compiler=infra/bazel/cuda_cubin.py
  [[ -f "$source" && " $archs " == *" 90 "* ]] || return 0
  command -v nvcc >/dev/null || fail "nvcc not found, for $source"
  if [[ -f "$out_dir/metadata.json" &&
    -z "$(find "$source" "$1/sm90" "$compiler" -newer "$out_dir/metadata.json")" ]]; then
    return 0
  fi
  "$python" "$compiler" --src "$source" --arch 90a --option=-I. --out "$out_dir"
}

check_tools
archs="$(choose_archs)"
archs_flags=()
for arch in $archs; do archs_flags+=(--arch "$arch"); done

cd "$root"
mapfile -t includes < <("$python" -c '
import sysconfig, jax, pybind11
print(sysconfig.get_path("include"), pybind11.get_include(), jax.ffi.include_dir(), sep="\n")')
mkdir -p "$out/objects"
for package in "${packages[@]}"; do
  mkdir -p "$out/$package"
  build_extension "$package"
  build_triton_cubins "$package"
  build_cuda_cubins "$package"
done
"$build_only" && exit 0

PYTHONPATH="$root:$out${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1 exec "$python" -m pytest \
  --import-mode=importlib -o consider_namespace_packages=true -o "markers=gpu: needs an NVIDIA GPU" \
  -p no:cacheprovider -m gpu kernels "${pytest_args[@]}"
