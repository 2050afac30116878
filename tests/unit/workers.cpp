// Work in threads: results keep their order, and failures are reported.
#include "src/core/workers.hpp"

#include <gtest/gtest.h>

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <numeric>
#include <stdexcept>
#include <string>

namespace slipway {
namespace {

void sleep_us(int us) { std::this_thread::sleep_for(std::chrono::microseconds(us)); }

/// A pipeline of the integers below `count`, each doubled by `work`, which takes longest for the first of any four.
struct Doubling {
  int next = 0;
  std::vector<int> consumed;
  OrderedPipeline<int> pipeline;

  explicit Doubling(int count) {
    pipeline.read = [this, count] { return next < count ? std::optional(next++) : std::nullopt; };
    pipeline.work = [](int& item) {
      sleep_us(100 * (3 - item % 4));
      item *= 2;
    };
    pipeline.consume = [this](int& item) { consumed.push_back(item); };
  }
};

TEST(OrderedPipeline, TakesItemsInTheOrderOfReadingWithAnyThreads) {
  std::vector<int> expected(200);
  for (int i = 0; i < 200; ++i) expected[static_cast<std::size_t>(i)] = 2 * i;
  for (const int threads : {1, 2, 7}) {
    Doubling doubling(200);
    doubling.pipeline.run(threads);
    EXPECT_EQ(doubling.consumed, expected) << threads << " threads";
  }
  Doubling nothing(0);
  nothing.pipeline.run(3);
  EXPECT_TRUE(nothing.consumed.empty());
}

TEST(OrderedPipeline, ReadsOnlyALittleAhead) {
  constexpr int kThreads = 3;
  std::atomic<int> read = 0, max_in_flight = 0;
  int consumed = 0;
  OrderedPipeline<int> pipeline;
  pipeline.read = [&] { return read < 300 ? std::optional(read++) : std::nullopt; };
  pipeline.work = [](int&) { sleep_us(20); };
  pipeline.consume = [&](int&) { max_in_flight = std::max(max_in_flight.load(), read - consumed++); };
  pipeline.run(kThreads);
  EXPECT_LE(max_in_flight, 2 * kThreads + 2);
}

TEST(OrderedPipeline, EndsWithWhatAnyOfItsStepsThrows) {
  for (const std::string step : {"read", "work", "take"})
    for (const int threads : {1, 4}) {
      Doubling doubling(1'000'000);  // would consume minutes
      OrderedPipeline<int>& pipeline = doubling.pipeline;
      const auto fail_at = [&](int item, int bad) {
        if (item == bad) throw std::runtime_error(step);
      };
      if (step == "read") pipeline.read = [&] { return fail_at(doubling.next, 20), std::optional(doubling.next++); };
      if (step == "work") pipeline.work = [&](int& item) { fail_at(item, 20); };
      if (step == "take") pipeline.consume = [&](int& item) { fail_at(item, 40); };
      try {
        pipeline.run(threads);
        FAIL() << step << " in " << threads << " threads threw nothing";
      } catch (const std::runtime_error& failed) {
        EXPECT_EQ(failed.what(), step);
      }
    }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they claim address space without end
TEST(OrderedPipeline, EndsWhereTheSystemGivesNoMoreThreads) {
  rlimit old_limit{};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &old_limit), 0);
  std::int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const rlim_t address_space_limit =
      static_cast<rlim_t>(pages * ::sysconf(_SC_PAGESIZE)) + (100 << 20);  // some stacks of 8 MiB
  const rlimit limit{address_space_limit, old_limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  Doubling doubling(1'000'000);  // a thousand may be done before the limit is reached
  std::string what;
  try {
    doubling.pipeline.run(200);
  } catch (const Error& error) {
    what = error.what();
  }
  setrlimit(RLIMIT_AS, &old_limit);
  EXPECT_NE(what.find("cannot start a thread"), std::string::npos) << what;
}
#endif

TEST(RunJobs, RunsEachJobOnce) {
  for (const int threads : {1, 3, 50}) {
    std::vector<int> runs(20);
    std::vector<std::function<void()>> jobs;
    for (int& count : runs) jobs.emplace_back([&count] { ++count; });
    run_jobs(jobs, threads);
    EXPECT_EQ(runs, std::vector<int>(20, 1)) << threads << " threads";
  }
  run_jobs({}, 2);
}

TEST(RunJobs, TellsOfTheFirstJobInOrderThatFailed) {
  const std::vector<std::function<void()>> jobs = {[] { sleep_us(20'000), throw std::runtime_error("the first"); },
                                                   [] { throw std::runtime_error("the second"); }};
  for (const int threads : {1, 2}) try {
      run_jobs(jobs, threads);
      FAIL();
    } catch (const std::runtime_error& failed) {
      EXPECT_STREQ(failed.what(), "the first") << threads << " threads";
    }
}

}  // namespace
}  // namespace slipway
