// What the tests of the Hopper kernels share: problems, their results in float64, and a process in
// which the kernels run on fake_driver.cc.
#ifndef KERNELS_ATTENTION_SM90_HARNESS_H_
#define KERNELS_ATTENTION_SM90_HARNESS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/attention/problem.h"
#include "kernels/attention/sm90/config.h"
#include "kernels/attention/sm90/keys_config.h"
#include "kernels/attention/sm90/numbers.h"
#include "kernels/native/cuda_launch.h"

namespace kernels::attention {

using sm90::BFloat16;
using sm90::Decode;
using sm90::Encode;
using sm90::Float16;

template <class Type>
constexpr DType kDType = std::is_same_v<Type, BFloat16> ? DType::kBFloat16 : DType::kFloat16;

struct Case {
  const char* name;
  int64_t batch, seq_q, seq_k, num_heads, num_kv_heads, window_left, window_right;
};

struct Inputs {
  std::vector<double> q, k, v, grad_out;
};

struct Tensors {
  // Not elements but their bits; aligned as the allocators of the frameworks do.
  std::vector<uint16_t> q, k, v, out, grad_out, grad_k, grad_v;
  std::vector<float> lse, slopes, delta;
};

inline Problem ProblemOf(const Case& c, int64_t head_dim) {
  Problem p{};
  p.batch = c.batch;
  p.seq_q = c.seq_q;
  p.seq_k = c.seq_k;
  p.num_heads = c.num_heads;
  p.num_kv_heads = c.num_kv_heads;
  p.head_dim = head_dim;
  p.softmax_scale = 0.125;
  p.window_left = c.window_left;
  p.window_right = c.window_right;
  return p;
}

template <class Type>
Tensors MakeTensors(const Problem& p) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  const auto draw = [&](int64_t size) {
    std::vector<uint16_t> numbers(size);
    for (auto& x : numbers) x = Encode<Type>(normal(random));
    return numbers;
  };
  const int64_t queries = p.batch * p.seq_q * p.num_heads;
  const int64_t keys = p.batch * p.seq_k * p.num_kv_heads;
  Tensors t;
  t.q = draw(queries * p.head_dim);
  t.k = draw(keys * p.head_dim);
  t.v = draw(keys * p.head_dim);
  t.grad_out = draw(queries * p.head_dim);
  t.grad_k = t.grad_v = std::vector<uint16_t>(keys * p.head_dim, 0xffff);
  // What is not written stays not a number.
  t.out.assign(queries * p.head_dim, 0xffff);
  t.lse.assign(queries, NAN);
  for (int i = 0; i < p.batch * p.num_heads; ++i) t.slopes.push_back(0.5f / (1 << i % 8));
  return t;
}

// What a query must give: its row of out, the sizes of the terms summed there, and lse.
struct Expected {
  std::vector<double> out, size;
  double lse;
};

template <class Type>
std::vector<double> Numbers(const std::vector<uint16_t>& bits) {
  std::vector<double> numbers;
  for (uint16_t x : bits) numbers.push_back(Decode<Type>(x));
  return numbers;
}

// The scores of a query, -infinity where it does not see.
inline std::vector<double> Scores(const Problem& p, const Inputs& x, double slope, int64_t b,
                                  int64_t i, int64_t h) {
  const int64_t kv_head = h / (p.num_heads / p.num_kv_heads);
  const double* q = &x.q[((b * p.seq_q + i) * p.num_heads + h) * p.head_dim];
  std::vector<double> scores(p.seq_k, -INFINITY);
  for (int64_t j = 0; j < p.seq_k; ++j) {
    const int64_t ahead = j - (i + p.seq_k - p.seq_q);
    if (p.window_left != kUnbounded && ahead < -p.window_left) continue;
    if (p.window_right != kUnbounded && ahead > p.window_right) continue;
    const double* k = &x.k[((b * p.seq_k + j) * p.num_kv_heads + kv_head) * p.head_dim];
    double dot = 0;
    for (int64_t d = 0; d < p.head_dim; ++d) dot += q[d] * k[d];
    scores[j] = p.softmax_scale * dot - slope * std::abs(ahead);
  }
  return scores;
}

inline Expected Attend(const Problem& p, const Inputs& x, double slope, int64_t b, int64_t i,
                       int64_t h) {
  const int64_t kv_head = h / (p.num_heads / p.num_kv_heads);
  const std::vector<double> scores = Scores(p, x, slope, b, i, h);
  const double maximum = *std::max_element(scores.begin(), scores.end());
  Expected expected{std::vector<double>(p.head_dim), std::vector<double>(p.head_dim), -INFINITY};
  if (maximum == -INFINITY) return expected;
  double sum = 0;
  for (double score : scores) sum += std::exp(score - maximum);
  for (int64_t j = 0; j < p.seq_k; ++j) {
    const double probability = std::exp(scores[j] - maximum) / sum;
    const double* v = &x.v[((b * p.seq_k + j) * p.num_kv_heads + kv_head) * p.head_dim];
    for (int64_t d = 0; d < p.head_dim; ++d) {
      expected.out[d] += probability * v[d];
      expected.size[d] += probability * std::abs(v[d]);
    }
  }
  expected.lse = maximum + std::log(sum);
  return expected;
}

[[noreturn]] inline void Fail(const std::string& what) {
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  std::exit(1);
}

inline void Near(double got, double expected, double allowed, const std::string& what) {
  if (got == expected || std::abs(got - expected) <= allowed) return;
  char text[100];
  std::snprintf(text, sizeof(text), " is %.9g, not %.9g by up to %.3g", got, expected, allowed);
  Fail(what + text);
}

// Scores, exponentials and sums add what float rounds, in large scores some more.
constexpr double kFloatError = 1e-5;

// How the emulated GPU runs what follows.
inline void SetOrder(bool eager) {
  setenv("FAKE_GPU_EAGER", eager ? "1" : "0", 1);
  setenv("FAKE_GPU_SEED", eager ? "11" : "12", 1);
}

constexpr int64_t kFree = kUnbounded;
inline const Case kCases[] = {
    {"grouped heads", 2, 200, 333, 4, 2, kFree, kFree},
    {"one query, one key", 1, 1, 1, 1, 1, kFree, kFree},
    {"one query", 2, 1, 500, 2, 1, kFree, kFree},
    {"whole tiles", 1, 384, 320, 1, 1, kFree, kFree},
    {"many tiles", 2, 500, 200, 3, 1, kFree, kFree},
    {"causal", 1, 400, 400, 4, 1, kFree, 0},
    {"causal, more keys", 2, 150, 421, 2, 2, kFree, 0},
    {"causal, fewer keys", 1, 421, 150, 2, 2, kFree, 0},
    {"window", 1, 420, 420, 1, 1, 30, 0},
    {"window on both sides", 1, 420, 390, 1, 1, 150, 45},
    {"window on the left", 1, 300, 300, 1, 1, 10, kFree},
    {"window, keys that nobody sees", 2, 100, 500, 2, 2, 30, 0},
};

// Checks each case in both types, with ALiBi in one of them and without in the other, by turns.
template <class Check>
void ForEachCase(const Check& check) {
  bool alibi = false;
  for (const Case& c : kCases) {
    check(BFloat16{}, c, 128, alibi);
    alibi = !alibi;
    check(Float16{}, c, 64, alibi);
    std::printf("%s\n", c.name);
  }
}

// As cubin_loader.py does from metadata.json, which attention_cuda_cubins_test.py holds against
// these.
template <class Config, class Params>
void Register(const std::string& name, const char* any_file) {
  const std::string size = std::to_string(sizeof(Params));
  cuda::RegisterKernel({name,
                        90,
                        true,
                        any_file,
                        name,
                        {{"params", "struct:" + size}},
                        0,
                        Config::kThreads / sm90::kWarpThreads,
                        Config::kSharedBytes,
                        {{"BLOCK_Q", Config::kBlockQ}, {"BLOCK_K", Config::kBlockK}}});
}

template <class Type, int kHeadDim, bool kWindowed, bool kAlibi>
void RegisterForm(const std::string& type, const char* any_file) {
  const std::string form = type + (kWindowed ? "_windowed" : "") + (kAlibi ? "_alibi" : "");
  Register<sm90::ForwardConfig<Type, kHeadDim, kWindowed, kAlibi>, sm90::ForwardParams>(
      "attention_sm90_fwd_" + form, any_file);
  Register<sm90::KeysConfig<Type, kHeadDim, kWindowed, kAlibi>, sm90::KeysParams>(
      "attention_sm90_bwd_kv_" + form, any_file);
}

template <class Type, int kHeadDim>
void RegisterAll(const std::string& type, const char* any_file) {
  RegisterForm<Type, kHeadDim, false, false>(type, any_file);
  RegisterForm<Type, kHeadDim, false, true>(type, any_file);
  RegisterForm<Type, kHeadDim, true, false>(type, any_file);
  RegisterForm<Type, kHeadDim, true, true>(type, any_file);
}

// For a main function with the driver as its argument.
inline void Start(int argc, char** argv) {
  if (argc != 2) Fail("give the driver as the argument");
  setenv("HPC_LIBCUDA", argv[1], 1);
  RegisterAll<BFloat16, 128>("bfloat16_d128", argv[1]);
  RegisterAll<Float16, 64>("float16_d64", argv[1]);
}

}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_SM90_HARNESS_H_
