// Whether a run fits into a host's memory: what control groups leave, also of CPUs, and what is said when it does not.
#include "src/plan/host_memory_check.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "src/core/cpus.hpp"
#include "src/core/memory.hpp"
#include "src/plan/plan.hpp"
#include "tests/support/core_files.hpp"

namespace slipway {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

void write_file(const std::filesystem::path& file, const std::string& text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file) << text;
}

TEST(CgroupTest, TheTightestLimitOfAGroupAndThoseAboveItCounts) {
  const ScratchFolder folder;
  const std::filesystem::path root = folder / "cgroup";
  EXPECT_EQ(cgroup_available_bytes("0::/a/b\n", root), std::nullopt);  // nothing is mounted
  write_file(root / "a/b/memory.max", "max\n");
  write_file(root / "a/b/memory.current", "1000\n");
  EXPECT_EQ(cgroup_available_bytes("0::/a/b\n", root), std::nullopt);  // no limit
  write_file(root / "a/memory.max", "5000\n");
  write_file(root / "a/memory.current", "4000\n");
  write_file(root / "a/memory.stat", "anon 1000\ninactive_file 2000\nactive_file 500\nslab 3\n");
  EXPECT_EQ(cgroup_available_bytes("0::/a/b\n", root), 3500U);  // pages of files can be had back
  write_file(root / "a/b/memory.max", "1200\n");
  EXPECT_EQ(cgroup_available_bytes("0::/a/b\n", root), 200U);
  write_file(root / "a/b/memory.max", "900\n");
  EXPECT_EQ(cgroup_available_bytes("0::/a/b\n", root), 0U);  // beyond its limit already
}

TEST(CgroupTest, TheTightestQuotaOfCpusCounts) {
  const ScratchFolder folder;
  const std::filesystem::path root = folder / "cgroup";
  EXPECT_EQ(cgroup_cpus("0::/a/b\n", root), std::nullopt);  // nothing is mounted
  write_file(root / "a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(cgroup_cpus("0::/a/b\n", root), std::nullopt);  // no quota
  write_file(root / "a/cpu.max", "250000 100000\n");
  EXPECT_EQ(cgroup_cpus("0::/a/b\n", root), 2.5);
  write_file(root / "a/b/cpu.max", "50000 100000\n");
  EXPECT_EQ(cgroup_cpus("0::/a/b\n", root), 0.5);

  write_file(root / "cpu/cpu.cfs_quota_us", "300000\n");  // version 1, in a container that hides the group's path
  write_file(root / "cpu/cpu.cfs_period_us", "100000\n");
  write_file(root / "cpu/own/cpu.cfs_quota_us", "-1\n");
  write_file(root / "cpu/own/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpus("5:cpu,cpuacct:/own\n4:memory:/x\n", root), 3.0);
  EXPECT_EQ(cgroup_cpus("5:cpuset:/own\n", root), std::nullopt);
}

TEST(CgroupTest, Version1IsReadInItsOwnHierarchyAlsoWhereTheContainerHidesTheGroupsPath) {
  const ScratchFolder folder;
  const std::filesystem::path root = folder / "cgroup";
  write_file(root / "memory/memory.limit_in_bytes", "8000\n");
  write_file(root / "memory/memory.usage_in_bytes", "3000\n");
  write_file(root / "memory/memory.stat", "total_inactive_file 1000\ninactive_file 9\n");
  const std::string groups = "5:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/\n";
  EXPECT_EQ(cgroup_available_bytes(groups, root), 6000U);
  EXPECT_EQ(cgroup_available_bytes("4:memory_other:/\n", root), std::nullopt);
  EXPECT_EQ(cgroup_available_bytes("", root), std::nullopt);
  EXPECT_EQ(cgroup_available_bytes("no such form\n", root), std::nullopt);
}

struct PlannedRun {
  RunConfig config;
  ModelSpec model;
};

PlannedRun make_run(const std::function<void(RunConfig&)>& modify) {
  PlannedRun run{.config = {.model = {.preset = "llama-1m"}}, .model = {}};
  run.config.numerics.compute = "f32";
  modify(run.config);
  run.config.resolve(1000);
  run.model = run.config.model.spec(4096);
  return run;
}

std::string shortfall(const PlannedRun& run, const HostMemoryBudget& budget) {
  return host_memory_shortfall(run.config, run.model, 1, budget);
}

void expect_mentions(const std::string& message, const std::vector<std::string>& substrings) {
  for (const std::string& substring : substrings) EXPECT_NE(message.find(substring), std::string::npos) << message;
}

TEST(HostMemoryTest, ARunThatDoesNotFitIsRefusedWithTheChangeThatDoes) {
  const PlannedRun plain = make_run([](RunConfig&) {});
  const std::uint64_t needed = host_bytes(plain.config, plain.model, 1);
  EXPECT_EQ(needed, plan_run(plain.config, plain.model, 1).memory.total());
  EXPECT_EQ(shortfall(plain, {1, needed}), "");
  EXPECT_EQ(shortfall(plain, {1, 0}), "");  // a system that does not say refuses nothing
  EXPECT_EQ(shortfall(plain, {4, 4 * needed}), "");
  expect_mentions(shortfall(plain, {1, needed - 1}),
                  {"this run needs ", " of memory and this host has ", "train.micro_batch = 1"});
  expect_mentions(shortfall(plain, {4, 4 * needed - 4}), {"for each of its 4 ranks here", "together"});
}

TEST(HostMemoryTest, ASequenceOfTwoBillionTokensIsRefusedWithTheLongestThatFits) {
  const PlannedRun endless = make_run([](RunConfig& c) { c.train.sequence = 2147483647; });
  const std::string message = shortfall(endless, {1, 4 * kGiB});
  expect_mentions(message, {"TiB of memory", "4.0 GiB free", "train.sequence = "});
  EXPECT_THROW(check_host_memory(endless.config, endless.model, 1, {1, 4 * kGiB}), Error);
  const std::size_t offset = message.find("train.sequence = ") + std::string("train.sequence = ").size();
  const PlannedRun shorter = make_run([&](RunConfig& c) { c.train.sequence = std::stoi(message.substr(offset)); });
  EXPECT_EQ(shortfall(shorter, {1, 4 * kGiB}), "");
}

TEST(HostMemoryTest, WhatNoHostHoldsIsRefusedThoughItsBytesOverflow) {
  const PlannedRun largest =
      make_run([](RunConfig& c) { c.train.sequence = c.train.batch = 2147483647, c.train.steps = 1; });
  EXPECT_FALSE(shortfall(largest, {1, 1024 * kGiB}).empty());
  try {
    check_row_count(largest.config);
    ADD_FAILURE() << "more rows than an int counts must be refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    expect_mentions(error.what(), {"train.micro_batch 2147483647 x train.sequence 2147483647", "at most 2147483647"});
  }
}

TEST(HostMemoryTest, WhereNoShorterSequenceHelpsFewerRanksDoOrASmallerModel) {
  const PlannedRun large = make_run([](RunConfig& c) {
    c.model.preset = "llama-124m", c.numerics.slots = 1, c.train.batch = 1, c.train.sequence = 64;
  });
  const std::uint64_t weights = plan_run(large.config, large.model, 1).memory.weights;
  expect_mentions(shortfall(large, {4, 8 * weights}), {"start 1 rank a host"});
  expect_mentions(shortfall(large, {1, weights}), {"choose a smaller model"});
  const PlannedRun slots = make_run([](RunConfig& c) { c.model.preset = "llama-124m", c.train.sequence = 32; });
  const MemoryPlan plan = plan_run(slots.config, slots.model, 1).memory;
  expect_mentions(shortfall(slots, {1, plan.total() - plan.slot_partials / 2}), {"numerics.slots = "});
}

}  // namespace
}  // namespace slipway
