#include "kernels/attention/cpu_visibility.h"

#include <algorithm>
#include <limits>

namespace kernels::attention {
namespace {

constexpr SegmentRange kNone = {std::numeric_limits<int32_t>::max(), -1, false};

SegmentRange Unite(const SegmentRange& a, const SegmentRange& b) {
  return {std::min(a.low, b.low), std::max(a.high, b.high), a.has_negative || b.has_negative};
}

int64_t NumBlocks(int64_t length) { return (length + kSegmentBlock - 1) / kSegmentBlock; }

std::vector<SegmentRange> Summarize(const int32_t* segments, int64_t batch, int64_t length) {
  std::vector<SegmentRange> ranges(batch * NumBlocks(length), kNone);
  for (int64_t row = 0; row < batch; ++row) {
    for (int64_t i = 0; i < length; ++i) {
      const int32_t segment = segments[row * length + i];
      const SegmentRange one = segment < 0 ? SegmentRange{kNone.low, kNone.high, true}
                                           : SegmentRange{segment, segment, false};
      SegmentRange& range = ranges[row * NumBlocks(length) + i / kSegmentBlock];
      range = Unite(range, one);
    }
  }
  return ranges;
}

SegmentRange RangeOf(const std::vector<SegmentRange>& ranges, int64_t batch, int64_t length,
                     Span span) {
  const SegmentRange* row = ranges.data() + batch * NumBlocks(length);
  SegmentRange range = kNone;
  for (int64_t block = span.begin / kSegmentBlock; block < NumBlocks(span.end); ++block) {
    range = Unite(range, row[block]);
  }
  return range;
}

// No window reaches further than the sum of the lengths; larger numbers might overflow.
int64_t Limit(const Problem& p, int64_t window) {
  const int64_t furthest = p.seq_q + p.seq_k;
  return window == kUnbounded ? furthest : std::min(window, furthest);
}

}  // namespace

SegmentTable SummarizeSegments(const Problem& p, const Extras& extras) {
  if (extras.q_segments == nullptr) return {};
  return {Summarize(extras.q_segments, p.batch, p.seq_q),
          Summarize(extras.kv_segments, p.batch, p.seq_k)};
}

bool HidesKeys(const Problem& p, const Extras& extras) {
  return p.window_left != kUnbounded || p.window_right != kUnbounded ||
         extras.q_segments != nullptr;
}

int64_t WindowLeft(const Problem& p) { return Limit(p, p.window_left); }
int64_t WindowRight(const Problem& p) { return Limit(p, p.window_right); }

Span KeysInWindow(const Problem& p, Span queries) {
  const int64_t ahead = p.seq_k - p.seq_q;
  return {std::max<int64_t>(queries.begin + ahead - WindowLeft(p), 0),
          std::min(queries.end + ahead + WindowRight(p), p.seq_k)};
}

Span QueriesInWindow(const Problem& p, Span keys) {
  const int64_t ahead = p.seq_k - p.seq_q;
  return {std::max<int64_t>(keys.begin - ahead - WindowRight(p), 0),
          std::min(keys.end - ahead + WindowLeft(p), p.seq_q)};
}

Span VisibleKeys(const Problem& p, const SegmentTable& segments, int64_t batch, Span queries) {
  Span span = KeysInWindow(p, queries);
  if (segments.queries.empty()) return span;
  const SegmentRange q = RangeOf(segments.queries, batch, p.seq_q, queries);
  const SegmentRange* keys = segments.keys.data() + batch * NumBlocks(p.seq_k);
  const auto is_hidden = [&](int64_t key) {
    const SegmentRange& k = keys[key / kSegmentBlock];
    return q.low > k.high || k.low > q.high;
  };
  while (span.begin < span.end && is_hidden(span.begin)) {
    span.begin = (span.begin / kSegmentBlock + 1) * kSegmentBlock;
  }
  while (span.begin < span.end && is_hidden(span.end - 1)) {
    span.end = (span.end - 1) / kSegmentBlock * kSegmentBlock;
  }
  return span;
}

TileKind ClassifyTile(const Problem& p, const SegmentTable& segments, int64_t batch, Span queries,
                      Span keys) {
  const int64_t first = queries.begin + p.seq_k - p.seq_q;
  const int64_t last = queries.end - 1 + p.seq_k - p.seq_q;
  const int64_t left = WindowLeft(p), right = WindowRight(p);
  if (keys.begin > last + right || keys.end - 1 < first - left) return TileKind::kEmpty;
  bool is_full = keys.end - 1 <= first + right && keys.begin >= last - left;
  if (!segments.queries.empty()) {
    const SegmentRange q = RangeOf(segments.queries, batch, p.seq_q, queries);
    const SegmentRange k = RangeOf(segments.keys, batch, p.seq_k, keys);
    if (q.low > k.high || k.low > q.high) return TileKind::kEmpty;
    is_full &= q.low == q.high && k.low == k.high && !q.has_negative && !k.has_negative;
  }
  return is_full ? TileKind::kFull : TileKind::kPartial;
}

}  // namespace kernels::attention
