// What a thread of a Hopper GPU can do, one function an instruction; for nvcc alone. The names of
// instructions in comments are those of NVIDIA, "PTX ISA".
#ifndef KERNELS_ATTENTION_SM90_HARDWARE_H_
#define KERNELS_ATTENTION_SM90_HARDWARE_H_

#include <cstdint>
#include <type_traits>

#include "kernels/attention/sm90/config.h"
#include "kernels/attention/sm90/wgmma.h"

namespace kernels::attention::sm90 {

// Shared memory is named by its 32-bit address there.
struct Gpu {
  uint32_t shared_base;

  __device__ int32_t ThreadIndex() const { return static_cast<int32_t>(threadIdx.x); }
  __device__ int32_t BlockIndex() const { return static_cast<int32_t>(blockIdx.x); }
  __device__ int32_t GridSize() const { return static_cast<int32_t>(gridDim.x); }
  __device__ uint32_t SharedBase() const { return shared_base; }

  // The same in all threads of a warp, and the compiler knows.
  __device__ int32_t WarpgroupIndex() const {
    return __shfl_sync(0xffffffff, static_cast<int32_t>(threadIdx.x) / kWarpgroupThreads, 0);
  }

  __device__ void SyncThreads() const { __syncthreads(); }

  // Of the threads of named barrier `name`, `threads` must arrive before one passes Sync.
  __device__ void NamedSync(int32_t name, int32_t threads) const {
    asm volatile("bar.sync %0, %1;" ::"r"(name), "r"(threads) : "memory");
  }
  __device__ void NamedArrive(int32_t name, int32_t threads) const {
    asm volatile("bar.arrive %0, %1;" ::"r"(name), "r"(threads) : "memory");
  }

  // setmaxnreg, by all threads of a warpgroup.
  template <int kRegisters>
  __device__ void ReleaseRegisters() const {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
  }
  template <int kRegisters>
  __device__ void ClaimRegisters() const {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
  }

  // mbarrier: a phase ends when `count` threads have arrived and all expected bytes have come.
  __device__ void BarrierInit(uint32_t barrier, uint32_t count) const {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
  }
  // Makes initialised barriers known to the copy engine.
  __device__ void FenceBarrierInit() const {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __device__ void BarrierArrive(uint32_t barrier) const {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
  }
  __device__ void BarrierArriveExpecting(uint32_t barrier, uint32_t bytes) const {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
  }
  // Waits until the phase of that parity has ended.
  __device__ void BarrierWait(uint32_t barrier, uint32_t parity) const {
    uint32_t done;
    do {
      asm volatile(
          "{\n.reg .pred done;\n"
          "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
          "selp.b32 %0, 1, 0, done;\n}\n"
          : "=r"(done)
          : "r"(barrier), "r"(parity)
          : "memory");
    } while (done == 0);
  }

  // cp.async.bulk.tensor, a box at (column, head, row, batch); loads complete at a barrier.
  __device__ void LoadBox(const TensorMap& map, uint32_t destination, uint32_t barrier,
                          int32_t column, int32_t head, int32_t row, int32_t batch) const {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(destination),
        "l"(&map), "r"(barrier), "r"(column), "r"(head), "r"(row), "r"(batch)
        : "memory");
  }
  __device__ void StoreBox(const TensorMap& map, uint32_t source, int32_t column, int32_t head,
                           int32_t row, int32_t batch) const {
    asm volatile(
        "cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(
            &map),
        "r"(source), "r"(column), "r"(head), "r"(row), "r"(batch)
        : "memory");
  }
  __device__ void StoresCommit() const { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
  // Until the stores that this thread committed have read shared memory.
  __device__ void StoresWaitRead() const {
    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
  }
  // Makes this thread's stores to shared memory visible to copies.
  __device__ void FenceForCopies() const {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  __device__ void StoreShared(uint32_t address, uint32_t value) const {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
  }

  __device__ Pair LoadShared(uint32_t address) const {
    Pair pair;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
                 : "=f"(pair.first), "=f"(pair.second)
                 : "r"(address)
                 : "memory");
    return pair;
  }
  __device__ void SyncWarp() const { __syncwarp(); }
  __device__ uint32_t Bits(float x) const { return __float_as_uint(x); }

  // wgmma, by all threads of a warpgroup.
  __device__ void MmaFence() const { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
  __device__ void MmaCommit() const {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  }
  template <int kPending>
  __device__ void MmaWait() const {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
  }
  // After the wait for an accumulator: the compiler may not read it earlier.
  template <int kSize>
  __device__ void Settle(float (&accumulator)[kSize]) const {
    SM90_UNROLL
    for (int i = 0; i < kSize; ++i) asm volatile("" : "+f"(accumulator[i])::"memory");
  }
  // MmaWait<0>, where it stands. ptxas moves a wait up, before work that could overlap with the
  // products, but not into a loop: this one ends after a round, if `positive` is what it says.
  __device__ void MmaWaitHere(int32_t positive) const {
    asm volatile(
        "{\n.reg .pred again;\nsetp.lt.s32 again, %0, 0;\n"
        "AGAIN:\nwgmma.wait_group.sync.aligned 0;\n@again bra.uni AGAIN;\n}\n" ::"r"(positive)
        : "memory");
  }
  // `x`, of which the compiler knows nothing: it will not keep what follows from it in registers.
  __device__ int32_t Opaque(int32_t x) const {
    asm volatile("" : "+r"(x));
    return x;
  }
  template <class Type, int kColumns>
  __device__ void Mma(float (&d)[kColumns / 2], uint64_t a, uint64_t b, bool accumulate) const {
    MmaShared<Type, kColumns>(d, a, b, accumulate);
  }
  template <class Type, int kColumns>
  __device__ void MmaFromRegisters(float (&d)[kColumns / 2], const uint32_t* a, uint64_t b) const {
    MmaRegisters<Type, kColumns>(d, a, b);
  }

  __device__ float ShuffleXor(float value, int lane_mask) const {
    return __shfl_xor_sync(0xffffffff, value, lane_mask);
  }
  __device__ float Exp2(float x) const {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
  }
  __device__ float Log2(float x) const {
    float result;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
  }
  __device__ float Reciprocal(float x) const {
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
  }

  // Two numbers, rounded to nearest even; `low` in the low half.
  template <class Type>
  __device__ uint32_t Pack(float low, float high) const {
    uint32_t packed;
    if constexpr (std::is_same_v<Type, BFloat16>) {
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    } else {
      asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    }
    return packed;
  }
};

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_HARDWARE_H_
