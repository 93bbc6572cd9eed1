#include "kernels/quantize/cpu.h"

#include <algorithm>
#include <cstdint>

#include "kernels/native/cpu_isa.h"
#include "kernels/native/default_floats.h"
#include "kernels/native/parallel.h"
#include "kernels/quantize/cpu_tasks.h"

namespace kernels::quantize {
namespace {

// Values that a task takes, a multiple of every block size: 128 KiB of float32, enough for a task
// to cost nothing and few enough for threads to end together.
constexpr int64_t kTaskValues = 32768;

// Below so many bytes that a thread reads and writes, waking it costs more than it gains.
constexpr double kBytesPerThread = 65536;

const TaskSet& SelectTasks(DType dtype) {
#if defined(__x86_64__)
  if (SelectedCpuIsa() == CpuIsa::kAvx512) return avx512::Tasks(dtype);
  if (SelectedCpuIsa() == CpuIsa::kAvx2) return avx2::Tasks(dtype);
#endif
  return generic::Tasks(dtype);
}

int64_t ValueBytes(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

// Runs `body(span)` for all of `num_chunks` chunks, `bytes` being what that reads and writes.
template <typename Body>
void Run(const Problem& p, int64_t num_chunks, double bytes, const Body& body) {
  struct Context {
    const Body& body;
    int64_t codes;
    int64_t spans;
  };
  const int64_t codes = CodesPerChunk(p), spans = CeilDiv(codes, kTaskValues);
  const int64_t num_tasks = num_chunks * spans;
  if (num_tasks == 0) return;
  const double useful = 1.0 + bytes / kBytesPerThread;
  const int threads =
      static_cast<int>(std::min<double>({double(NumThreads()), double(num_tasks), useful}));
  Context context{body, codes, spans};
  ParallelFor(
      num_tasks, threads,
      [](void* opaque, int64_t task, int) {
        const Context& c = *static_cast<Context*>(opaque);
        const int64_t begin = task % c.spans * kTaskValues;
        const DefaultFloats floats;
        c.body({task / c.spans, begin, std::min(begin + kTaskValues, c.codes)});
      },
      &context);
}

}  // namespace

void QuantizeCpu(DType dtype, const Problem& p, const QuantizeTensors& t) {
  CheckProblem(p);
  const TaskSet& tasks = SelectTasks(dtype);
  const double bytes = double(p.size) * ValueBytes(dtype) + double(p.num_chunks) * PayloadBytes(p);
  Run(p, p.num_chunks, bytes, [&](Span span) { tasks.quantize(p, t, span); });
}

void DequantizeCpu(DType dtype, const Problem& p, const DequantizeTensors& t) {
  CheckProblem(p);
  const TaskSet& tasks = SelectTasks(dtype);
  const double bytes = double(p.size) * ValueBytes(dtype) + double(p.num_chunks) * PayloadBytes(p);
  Run(p, p.num_chunks, bytes, [&](Span span) { tasks.dequantize(p, t, span); });
}

void ReduceCpu(DType dtype, const Problem& p, const ReduceTensors& t) {
  CheckProblem(p);
  const TaskSet& tasks = SelectTasks(dtype);
  const double bytes = double(p.size) * ValueBytes(dtype) + double(p.num_chunks) * PayloadBytes(p);
  Run(p, 1, bytes, [&](Span span) { tasks.reduce(p, t, span); });
}

void ReduceQuantizeCpu(const Problem& p, const ReduceQuantizeTensors& t) {
  CheckProblem(p);
  const TaskSet& tasks = SelectTasks(DType::kFloat32);
  Run(p, 1, double(p.num_chunks + 1) * PayloadBytes(p),
      [&](Span span) { tasks.reduce_quantize(p, t, span); });
}

}  // namespace kernels::quantize
