// A Hopper thread block on the host, for tests: what hardware.h does with instructions, done
// with bytes of shared memory, descriptors and registers, as NVIDIA's "PTX ISA" describes it.
//
// Copies and matrix products are asynchronous here too: they happen at any time between their start
// and the wait for them, so that a missing wait or an early release gives wrong numbers: early (a
// product as soon as all threads have issued it) or late (at the wait; a copy when all threads
// wait). What cannot be right ends the program with a message.
#ifndef KERNELS_ATTENTION_SM90_EMULATION_H_
#define KERNELS_ATTENTION_SM90_EMULATION_H_

#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <random>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/attention/sm90/config.h"
#include "kernels/attention/sm90/emulated_memory.h"
#include "kernels/attention/sm90/emulated_products.h"
#include "kernels/attention/sm90/fibers.h"
#include "kernels/attention/sm90/layout.h"
#include "kernels/attention/sm90/numbers.h"

namespace kernels::attention::sm90 {

struct Warpgroup {
  // Never moved: references to them are kept.
  std::deque<Product> products;
  // Products of each committed group end here; and how many threads have committed it.
  std::vector<int> group_end;
  std::vector<int> committed;
  int issued_by[kWarpgroupThreads] = {};
  int commits_by[kWarpgroupThreads] = {};
};

struct Mbarrier {
  int count;
  int pending;
  int64_t bytes;
  uint32_t phase;
};

struct Rendezvous {
  int arrived = 0;
  int generation = 0;
  float values[kWarpThreads];
  float seen[kWarpThreads];
};

struct Launch {
  int32_t block;
  int32_t grid;
  int32_t threads;
  int32_t shared_bytes;
  uint32_t seed;
  // Copies and products happen early, or as late as they can.
  bool eager;
};

class ThreadBlock {
 public:
  explicit ThreadBlock(const Launch& launch)
      : launch_(launch),
        shared_(launch.shared_bytes),
        warpgroups_(launch.threads / kWarpgroupThreads),
        warps_(launch.threads / kWarpThreads),
        choices_(launch.seed),
        fibers_(launch.threads, launch.seed, launch.eager, [this] { return DoOneCopy(); }) {}

  // Runs kernel(*this) in every thread.
  template <class Kernel>
  void Run(const Kernel& kernel) {
    fibers_.Run([&](int) { kernel(*this); });
  }

  int32_t ThreadIndex() const { return fibers_.Index(); }
  int32_t WarpgroupIndex() const { return ThreadIndex() / kWarpgroupThreads; }
  int32_t BlockIndex() const { return launch_.block; }
  int32_t GridSize() const { return launch_.grid; }
  uint32_t SharedBase() const { return SharedMemory::kBase; }
  int32_t Opaque(int32_t x) const { return x; }

  void SyncThreads() { NamedSync(0, launch_.threads); }

  void NamedSync(int32_t name, int32_t threads) {
    Rendezvous& barrier = named_[name];
    const int generation = barrier.generation;
    NamedArrive(name, threads);
    fibers_.WaitUntil([&barrier, generation] { return barrier.generation != generation; });
  }
  void NamedArrive(int32_t name, int32_t threads) {
    Require(name >= 0 && name < 16, "there are 16 named barriers");
    Rendezvous& barrier = named_[name];
    if (++barrier.arrived == threads) {
      barrier.arrived = 0;
      ++barrier.generation;
    }
  }

  template <int kRegisters>
  void ReleaseRegisters() const {
    static_assert(kRegisters % 8 == 0 && kRegisters >= 24);
  }
  template <int kRegisters>
  void ClaimRegisters() const {
    static_assert(kRegisters % 8 == 0 && kRegisters <= 256);
  }

  void BarrierInit(uint32_t barrier, uint32_t count) {
    Require(barrier % 8 == 0, "barriers are aligned to 8 bytes");
    Require(barriers_.count(barrier) == 0, "a barrier is initialised once");
    const int c = static_cast<int>(count);
    barriers_[barrier] = {c, c, 0, 0};
  }
  void FenceBarrierInit() const {}
  void BarrierArrive(uint32_t barrier) { Arrive(barrier, 1, 0); }
  void BarrierArriveExpecting(uint32_t barrier, uint32_t bytes) { Arrive(barrier, 1, bytes); }
  void BarrierWait(uint32_t barrier, uint32_t parity) {
    const Mbarrier& state = Find(barrier);
    fibers_.WaitUntil([&state, parity] { return state.phase != parity; });
  }

  void LoadBox(const TensorMap& map, uint32_t destination, uint32_t barrier, int32_t column,
               int32_t head, int32_t row, int32_t batch) {
    loads_.push_back([=, &map] {
      shared_.CopyBox(ArrayOf(map), destination, column, head, row, batch, /*load=*/true);
      Arrive(barrier, 0, -static_cast<int64_t>(PanelBytes(ArrayOf(map).box_rows)));
    });
  }
  void StoreBox(const TensorMap& map, uint32_t source, int32_t column, int32_t head, int32_t row,
                int32_t batch) {
    const auto dirty = unfenced_.lower_bound(source);
    Require(dirty == unfenced_.end() || dirty->first >= source + PanelBytes(ArrayOf(map).box_rows),
            "stores to shared memory are fenced before a copy reads them");
    ++stores_of_[ThreadIndex()];
    stores_.push_back([=, &map, thread = ThreadIndex()] {
      shared_.CopyBox(ArrayOf(map), source, column, head, row, batch, /*load=*/false);
      --stores_of_[thread];
    });
  }
  void StoresCommit() const {}
  void StoresWaitRead() {
    const int& stores = stores_of_[ThreadIndex()];
    fibers_.WaitUntil([&stores] { return stores == 0; });
  }
  void FenceForCopies() {
    const int thread = ThreadIndex();
    for (auto it = unfenced_.begin(); it != unfenced_.end();) {
      it = it->second == thread ? unfenced_.erase(it) : std::next(it);
    }
  }
  void StoreShared(uint32_t address, uint32_t value) {
    Require(address % 4 == 0, "a store is aligned");
    std::memcpy(shared_.At(address, sizeof(value)), &value, sizeof(value));
    unfenced_[address] = ThreadIndex();
  }

  Pair LoadShared(uint32_t address) {
    Require(address % sizeof(Pair) == 0, "a load is aligned");
    Pair pair;
    std::memcpy(&pair, shared_.At(address, sizeof(pair)), sizeof(pair));
    return pair;
  }
  void SyncWarp() { ShuffleXor(0.0f, 0); }
  uint32_t Bits(float x) const {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    return bits;
  }

  void MmaFence() const {}
  void MmaCommit() {
    Warpgroup& group = warpgroups_[WarpgroupIndex()];
    const int thread = ThreadIndex() % kWarpgroupThreads;
    const size_t commit = group.commits_by[thread]++;
    if (group.committed.size() == commit) {
      group.committed.push_back(0);
      group.group_end.push_back(group.issued_by[thread]);
    }
    Require(group.group_end[commit] == group.issued_by[thread], "threads commit the same products");
    ++group.committed[commit];
  }
  template <int kPending>
  void MmaWait() {
    Warpgroup& group = warpgroups_[WarpgroupIndex()];
    const int groups = group.commits_by[ThreadIndex() % kWarpgroupThreads] - kPending;
    if (groups <= 0) return;
    fibers_.WaitUntil([&] { return group.committed[groups - 1] == kWarpgroupThreads; });
    for (int i = 0; i < group.group_end[groups - 1]; ++i) Execute(group.products[i]);
  }
  void MmaWaitHere(int32_t positive) {
    Require(positive >= 0, "the loop around a wait ends");
    MmaWait<0>();
  }
  template <int kSize>
  void Settle(float (&)[kSize]) const {}

  template <class Type, int kColumns>
  void Mma(float (&d)[kColumns / 2], uint64_t a, uint64_t b, bool accumulate) {
    Issue(d, nullptr, {false, a, b, accumulate, std::is_same_v<Type, BFloat16>, kColumns});
  }
  template <class Type, int kColumns>
  void MmaFromRegisters(float (&d)[kColumns / 2], const uint32_t* a, uint64_t b) {
    Issue(d, a, {true, 0, b, true, std::is_same_v<Type, BFloat16>, kColumns});
  }

  float ShuffleXor(float value, int lane_mask) {
    Rendezvous& warp = warps_[ThreadIndex() / kWarpThreads];
    const int lane = ThreadIndex() % kWarpThreads;
    const int generation = warp.generation;
    warp.values[lane] = value;
    if (++warp.arrived == kWarpThreads) {
      std::memcpy(warp.seen, warp.values, sizeof(warp.seen));
      warp.arrived = 0;
      ++warp.generation;
    }
    fibers_.WaitUntil([&warp, generation] { return warp.generation != generation; });
    return warp.seen[lane ^ lane_mask];
  }
  float Exp2(float x) const { return std::exp2(x); }
  float Log2(float x) const { return std::log2(x); }
  float Reciprocal(float x) const { return 1.0f / x; }
  template <class Type>
  uint32_t Pack(float low, float high) const {
    return static_cast<uint32_t>(Encode<Type>(high)) << 16 | Encode<Type>(low);
  }

 private:
  Mbarrier& Find(uint32_t barrier) {
    const auto found = barriers_.find(barrier);
    Require(found != barriers_.end(), "a barrier is initialised");
    return found->second;
  }

  void Arrive(uint32_t barrier, int arrivals, int64_t bytes) {
    Mbarrier& state = Find(barrier);
    state.pending -= arrivals;
    state.bytes += bytes;
    Require(state.pending >= 0, "a barrier gets as many arrivals as it was initialised with");
    if (state.pending == 0 && state.bytes == 0) {
      state.pending = state.count;
      state.phase ^= 1;
    }
  }

  // Copies go in any order, but stores after loads.
  bool DoOneCopy() {
    auto& copies = loads_.empty() ? stores_ : loads_;
    if (copies.empty()) return false;
    std::swap(copies[choices_() % copies.size()], copies.front());
    const std::function<void()> copy = std::move(copies.front());
    copies.pop_front();
    copy();
    return true;
  }

  void Issue(float* d, const uint32_t* a, const Instruction& instruction) {
    Warpgroup& group = warpgroups_[WarpgroupIndex()];
    const int thread = ThreadIndex() % kWarpgroupThreads;
    const size_t index = group.issued_by[thread]++;
    if (group.products.size() == index) group.products.push_back({instruction, {}, {}, 0, false});
    Product& product = group.products[index];
    Require(product.instruction == instruction, "all threads issue the same product");
    product.d[thread] = d;
    product.a[thread] = a;
    if (++product.issued == kWarpgroupThreads && launch_.eager) Execute(product);
  }

  void Execute(Product& product) {
    if (product.done) return;
    Require(product.issued == kWarpgroupThreads, "all threads issue a product");
    product.done = true;
    Multiply(product, shared_);
  }

  Launch launch_;
  SharedMemory shared_;
  std::vector<Warpgroup> warpgroups_;
  std::vector<Rendezvous> warps_;
  std::map<int32_t, Rendezvous> named_;
  std::map<uint32_t, Mbarrier> barriers_;
  std::map<int32_t, int> stores_of_;
  // Addresses stored to and not fenced yet, by the thread that did.
  std::map<uint32_t, int> unfenced_;
  std::deque<std::function<void()>> loads_;
  std::deque<std::function<void()>> stores_;
  std::minstd_rand choices_;
  Fibers fibers_;
};

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_EMULATION_H_
