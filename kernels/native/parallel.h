// A parallel loop over independent tasks.
#ifndef KERNELS_NATIVE_PARALLEL_H_
#define KERNELS_NATIVE_PARALLEL_H_

#include <cstdint>

namespace kernels {

// The number of threads that kernels may use now: HPC_NUM_THREADS, else the number of CPUs this
// process may run on or what LimitThreads allows of them. The variable is read once per process.
// Throws std::invalid_argument when it is malformed.
int NumThreads();

// From now on, kernels use at most `limit` threads (at least 1), unless HPC_NUM_THREADS is set: for
// a framework's own setting. Any thread may call it at any time.
void LimitThreads(int limit);

// From now on, what this thread calls shares the threads of PyTorch's OpenMP runtime, if the
// process has one. They look out for work for milliseconds after each of PyTorch's operations, and
// threads of our own would share the CPUs with them meanwhile.
void ShareOpenMp();

// Runs one task. `worker` is in [0, num_threads) and no two tasks run at once with the same worker,
// so it can index per-worker scratch memory.
using TaskFunction = void (*)(void* context, int64_t task, int worker);

// Calls `function(context, task, worker)` once for each task in [0, num_tasks) and returns when all
// are done, on one persistent pool of threads, or OpenMP's. Tasks start in increasing order but may
// finish in any order: a task whose result depends on nothing but its index makes the whole loop
// independent of the number of threads.
//
// The caller's thread works too. When the pool is busy with another caller, or the call comes from
// within a task, the caller does all tasks itself, so calls nest and never deadlock. A forked child
// gets a pool of its own at its first call, as OpenMP's threads are not there any more.
void ParallelFor(int64_t num_tasks, int num_threads, TaskFunction function, void* context);

}  // namespace kernels

#endif  // KERNELS_NATIVE_PARALLEL_H_
