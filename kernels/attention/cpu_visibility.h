// Which keys a block of queries sees, by window and by segment: what to skip and what to mask.
#ifndef KERNELS_ATTENTION_CPU_VISIBILITY_H_
#define KERNELS_ATTENTION_CPU_VISIBILITY_H_

#include <cstdint>
#include <vector>

#include "kernels/attention/problem.h"

namespace kernels::attention {

// The indices [begin, end); none if end <= begin.
struct Span {
  int64_t begin;
  int64_t end;
};

// Queries or keys whose segments are summed up in one SegmentRange.
constexpr int64_t kSegmentBlock = 64;

// The segments of a block: [low, high], without the negative ones. low > high: none.
struct SegmentRange {
  int32_t low;
  int32_t high;
  bool has_negative;
};

// Summaries of q_segments and kv_segments, [batch, blocks of kSegmentBlock]; empty without
// segments.
struct SegmentTable {
  std::vector<SegmentRange> queries;
  std::vector<SegmentRange> keys;
};

SegmentTable SummarizeSegments(const Problem& problem, const Extras& extras);

// Whether some queries may not see some keys: by a window or by segments.
bool HidesKeys(const Problem& problem, const Extras& extras);

// The window's limits, with a finite number where there is none.
int64_t WindowLeft(const Problem& problem);
int64_t WindowRight(const Problem& problem);

// All keys that some of the queries may see, or queries that may see some of the keys, by window.
Span KeysInWindow(const Problem& problem, Span queries);
Span QueriesInWindow(const Problem& problem, Span keys);

// The first to the last of those keys, in whole blocks of kSegmentBlock, that share a segment with
// some of the queries.
Span VisibleKeys(const Problem& problem, const SegmentTable& segments, int64_t batch, Span queries);

// Whether no query of a tile sees any of its keys, some see some, or all see all. Where the tile is
// kPartial, that may be said of one that is kEmpty or kFull, if its segments are mixed.
enum class TileKind { kEmpty, kPartial, kFull };
TileKind ClassifyTile(const Problem& problem, const SegmentTable& segments, int64_t batch,
                      Span queries, Span keys);

}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_VISIBILITY_H_
