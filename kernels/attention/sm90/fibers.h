// Many threads of a GPU on one thread of the host: each runs until it waits for others. Who goes on
// is drawn from a seed, so that a test can try many orders and repeat each.
#ifndef KERNELS_ATTENTION_SM90_FIBERS_H_
#define KERNELS_ATTENTION_SM90_FIBERS_H_

#include <ucontext.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <vector>

namespace kernels::attention::sm90 {

class Fibers {
 public:
  // `idle` does a piece of other pending work, such as a copy, and returns false if there is none.
  // It gets its chance when no fiber can run, and, if `eager`, now and then before.
  Fibers(int count, uint32_t seed, bool eager, std::function<bool()> idle)
      : fibers_(count), random_(seed), eager_(eager), idle_(std::move(idle)) {}

  // Runs body(index) in each fiber until all have returned. Throws std::runtime_error if all that
  // are left wait for each other.
  void Run(const std::function<void(int)>& body) {
    body_ = &body;
    for (Fiber& fiber : fibers_) Prepare(fiber);
    int running = static_cast<int>(fibers_.size());
    while (running > 0) {
      if (eager_ && random_() % kIdlePeriod == 0) idle_();
      Fiber* next = FindReady();
      if (next == nullptr) {
        if (!idle_()) throw std::runtime_error("deadlock: all threads wait");
        continue;
      }
      current_ = next;
      swapcontext(&scheduler_, &next->context);
      if (next->done) --running;
    }
    while (idle_()) {
    }
  }

  // Of the fiber that runs.
  int Index() const { return static_cast<int>(current_ - fibers_.data()); }

  // Lets others run until ready().
  void WaitUntil(std::function<bool()> ready) {
    if (ready()) return;
    current_->ready = std::move(ready);
    swapcontext(&current_->context, &scheduler_);
  }

 private:
  static constexpr int kStackBytes = 64 * 1024;
  static constexpr int kIdlePeriod = 50;

  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    std::function<bool()> ready;
    bool done = false;
  };

  void Prepare(Fiber& fiber) {
    fiber.stack.reset(new char[kStackBytes]);
    fiber.done = false;
    fiber.ready = nullptr;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = &scheduler_;
    const auto address = reinterpret_cast<uintptr_t>(this);
    // makecontext passes int arguments: the address goes as two halves.
    makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Fibers::Start), 2,
                static_cast<uint32_t>(address), static_cast<uint32_t>(address >> 32));
  }

  static void Start(uint32_t low, uint32_t high) {
    auto* self = reinterpret_cast<Fibers*>(static_cast<uintptr_t>(high) << 32 | low);
    (*self->body_)(self->Index());
    self->current_->done = true;
  }

  // The first that can run, from a random one on.
  Fiber* FindReady() {
    const size_t first = random_() % fibers_.size();
    for (size_t i = 0; i < fibers_.size(); ++i) {
      Fiber& fiber = fibers_[(first + i) % fibers_.size()];
      if (fiber.done) continue;
      if (fiber.ready != nullptr && !fiber.ready()) continue;
      fiber.ready = nullptr;
      return &fiber;
    }
    return nullptr;
  }

  std::vector<Fiber> fibers_;
  std::minstd_rand random_;
  bool eager_;
  std::function<bool()> idle_;
  const std::function<void(int)>* body_ = nullptr;
  ucontext_t scheduler_;
  Fiber* current_ = nullptr;
};

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_FIBERS_H_
