// The index maps of the Hopper kernels: each against what it must be for the others.
#include "kernels/attention/sm90/layout.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <utility>

namespace kernels::attention::sm90 {
namespace {

void Require(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "FAILED: %s\n", what);
  std::exit(1);
}

void CheckLayout() {
  // A product's 64 rows and 16 columns are spread over the registers, each once.
  std::set<std::pair<int, int>> accumulator, operand;
  for (int thread = 0; thread < kWarpgroupThreads; ++thread) {
    for (int i = 0; i < kMmaDepth / 2; ++i) {
      const Element element = AccumulatorElement(thread, i);
      accumulator.insert({element.row, element.column});
      const Element same = OperandElement(thread, i / 2, i % 2);
      operand.insert({same.row, same.column});
      Require(same.row == element.row && same.column == element.column,
              "probabilities are where the next product wants them");
      Require(element.row == AccumulatorElement(thread, 2 * RowOf(i)).row, "rows of a thread");
      Require(element.column == AccumulatorElement(thread, 0).column + ColumnOf(i), "columns");
    }
  }
  Require(accumulator.size() == kMmaRows * kMmaDepth && operand == accumulator, "all elements");
  // Swizzle keeps what is in a row in the row; the same unit of eight rows falls on all banks.
  for (int unit = 0; unit < 8; ++unit) {
    std::set<uint32_t> banks;
    for (int row = 0; row < kSwizzleRows; ++row) {
      const uint32_t offset = SharedOffset(64, row, unit * 8);
      Require(offset / kPanelRowBytes == static_cast<uint32_t>(row), "a row stays in place");
      banks.insert(offset % kPanelRowBytes);
    }
    Require(banks.size() == kSwizzleRows, "no bank conflicts");
  }
  Require(SharedOffset(64, 3, 64) == 64 * 128 + SharedOffset(64, 3, 0), "panels follow each other");
}

void CheckDescriptors() {
  // Bits 0-13 start, 16-29 leading, 32-45 stride, 62-63 swizzle; all in units of 16 bytes.
  Require(RowsDescriptor(0x2400) == 0x4000'0040'0001'0240u, "rows along the depth");
  Require(ColumnsDescriptor(0x2400, 128) == 0x4000'0040'0400'0240u, "rows count the depth");
  Require(RowsStep(128, 3) == 6 && RowsStep(128, 4) == 0x400 && ColumnsStep(2) == 0x100, "steps");
}

}  // namespace
}  // namespace kernels::attention::sm90

int main() {
  kernels::attention::sm90::CheckLayout();
  kernels::attention::sm90::CheckDescriptors();
}
