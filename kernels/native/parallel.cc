#include "kernels/native/parallel.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

namespace kernels {
namespace {

constexpr int kMaxThreads = 1024;

// How often a worker comes for tasks, on average: often enough for all to end together.
constexpr int64_t kTurnsPerWorker = 16;

// To sleep and be woken takes as long as a small job, so a thread first looks around for a while.
constexpr auto kSpinTime = std::chrono::microseconds(200);

// Waits for a condition, letting other threads have the CPU; returns whether it came true in time.
template <typename Condition>
bool SpinUntil(const Condition& condition) {
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    sched_yield();
  }
  return true;
}

struct Job {
  TaskFunction function;
  void* context;
  int64_t num_tasks;
  int max_workers;
  // Tasks that a worker takes at once: neighbours often write to the same lines of the cache.
  int64_t grain;
  std::atomic<int64_t> next_task{0};
  // Both change under Pool::mutex_ only. Worker 0 is the caller.
  int joined = 1;
  std::atomic<int> running{0};

  void Drain(int worker) {
    for (int64_t first;
         (first = next_task.fetch_add(grain, std::memory_order_relaxed)) < num_tasks;) {
      const int64_t end = std::min(first + grain, num_tasks);
      for (int64_t task = first; task < end; ++task) function(context, task, worker);
    }
  }
};

class Pool {
 public:
  bool BelongsToThisProcess() const { return owner_ == getpid(); }

  void Start(int num_threads) {
    // Python expects signals on its own threads.
    sigset_t all, previous;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &previous);
    try {
      for (int i = 1; i < num_threads; ++i) std::thread(&Pool::Work, this).detach();
    } catch (const std::system_error&) {
      // A process limit was reached: the threads that did start are enough to be correct.
    }
    pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  }

  // Returns false, having done nothing, when another job is running.
  bool TryRun(Job& job) {
    if (busy_.test_and_set(std::memory_order_acquire)) return false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = &job;
      num_jobs_.fetch_add(1, std::memory_order_release);
    }
    work_available_.notify_all();
    job.Drain(0);
    Close(job);
    busy_.clear(std::memory_order_release);
    return true;
  }

 private:
  // Waits for the workers that joined; one that is slow to wake finds the job gone and costs
  // nothing.
  void Close(Job& job) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = nullptr;
    }
    if (SpinUntil([&job] { return job.running.load(std::memory_order_acquire) == 0; })) return;
    std::unique_lock<std::mutex> lock(mutex_);
    work_done_.wait(lock, [&job] { return job.running == 0; });
  }

  void Work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      work_available_.wait(lock, [this] { return job_ && job_->joined < job_->max_workers; });
      const int64_t job_number = num_jobs_.load(std::memory_order_relaxed);
      Job& job = *job_;
      const int worker = job.joined++;
      ++job.running;
      lock.unlock();
      job.Drain(worker);
      lock.lock();
      if (--job.running == 0) work_done_.notify_one();
      lock.unlock();
      SpinUntil([&] { return num_jobs_.load(std::memory_order_acquire) != job_number; });
      lock.lock();
    }
  }

  const pid_t owner_ = getpid();
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  std::mutex mutex_;
  std::condition_variable work_available_, work_done_;
  Job* job_ = nullptr;
  std::atomic<int64_t> num_jobs_{0};
};

int AvailableCpus() {
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0) return std::max(1, CPU_COUNT(&cpus));
  return std::max(1u, std::thread::hardware_concurrency());
}

struct ThreadSetting {
  int num_threads;
  bool is_fixed;  // By HPC_NUM_THREADS.
};

ThreadSetting ReadThreadSetting() {
  const char* text = std::getenv("HPC_NUM_THREADS");
  if (text == nullptr || *text == '\0') return {std::min(AvailableCpus(), kMaxThreads), false};
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*end != '\0' || value < 1 || value > kMaxThreads) {
    throw std::invalid_argument("HPC_NUM_THREADS must be an integer from 1 to " +
                                std::to_string(kMaxThreads) + ", got '" + text + "'");
  }
  return {static_cast<int>(value), true};
}

const ThreadSetting& Setting() {
  static const ThreadSetting setting = ReadThreadSetting();
  return setting;
}

std::atomic<int> thread_limit{kMaxThreads};

// Never destroyed: its detached threads may outlive static destructors.
Pool& ProcessPool() {
  static std::atomic<Pool*> instance{nullptr};
  Pool* current = instance.load(std::memory_order_acquire);
  // Threads do not survive fork(), and the parent's mutexes may be held: the child starts afresh.
  while (current == nullptr || !current->BelongsToThisProcess()) {
    Pool* fresh = new Pool;
    if (instance.compare_exchange_strong(current, fresh, std::memory_order_acq_rel)) {
      fresh->Start(Setting().num_threads);
      return *fresh;
    }
    delete fresh;
  }
  return *current;
}

// What the compiler calls for `#pragma omp parallel`: runs a function on each thread of a team that
// the calling thread has to itself.
using GompParallel = void (*)(void (*function)(void*), void* data, unsigned num_threads,
                              unsigned flags);

thread_local bool shares_openmp = false;

// The threads of a team do not survive fork(), and a child that waits for them waits forever.
std::atomic<bool> is_forked{false};
const int at_fork = pthread_atfork(nullptr, nullptr, [] { is_forked = true; });

struct Team {
  Job& job;
  std::atomic<int> joined{0};
};

// Returns false, having done nothing, where the job is not for OpenMP.
bool TryRunOnOpenMp(Job& job) {
  static const auto parallel = reinterpret_cast<GompParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  if (!shares_openmp || parallel == nullptr || is_forked || at_fork != 0) return false;
  Team team{job};
  parallel(
      [](void* opaque) {
        Team& team = *static_cast<Team*>(opaque);
        team.job.Drain(team.joined.fetch_add(1, std::memory_order_relaxed));
      },
      &team, static_cast<unsigned>(job.max_workers), 0);
  return true;
}

}  // namespace

int NumThreads() {
  const ThreadSetting& setting = Setting();
  if (setting.is_fixed) return setting.num_threads;
  return std::min(setting.num_threads, thread_limit.load(std::memory_order_relaxed));
}

void LimitThreads(int limit) { thread_limit.store(std::max(limit, 1), std::memory_order_relaxed); }

void ShareOpenMp() { shares_openmp = true; }

void ParallelFor(int64_t num_tasks, int num_threads, TaskFunction function, void* context) {
  const int64_t grain = std::max<int64_t>(num_tasks / (kTurnsPerWorker * num_threads), 1);
  Job job{function, context, num_tasks, num_threads, grain};
  const bool alone = num_threads <= 1 || num_tasks <= 1;
  if (alone || !(TryRunOnOpenMp(job) || ProcessPool().TryRun(job))) job.Drain(0);
}

}  // namespace kernels
