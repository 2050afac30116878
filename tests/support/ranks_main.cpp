#include "tests/support/ranks_main.hpp"
#include "comm/watchdog.hpp"

#include <gtest/gtest.h>

#include <cstdio>

namespace slipway {
namespace {

World* world = nullptr;

/// Prints only failures, with the rank; used by every rank but the first.
class FailuresOnly : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s:%d: %s\n", world->group().rank(), result.file_name(), result.line_number(),
                 result.message());
  }
};

}  // namespace

World& test_world() { return *world; }

}  // namespace slipway

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  slipway::World all;
  slipway::world = &all;
  slipway::start_watchdog(60);  // a rank that failed an ASSERT leaves the others waiting
  if (all.group().rank() != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new slipway::FailuresOnly);
  }
  const bool good = RUN_ALL_TESTS() == 0;
  return all.group().all_agree(good) ? 0 : 1;
}
