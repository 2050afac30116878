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

void put(const std::filesystem::path& file, const std::string& text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file) << text;
}

TEST(CgroupTest, TheTightestLimitOfAGroupAndThoseAboveItCounts) {
  const ScratchFolder folder;
  const std::filesystem::path root = folder / "cgroup";
  EXPECT_EQ(cgroup_available_bytes("0::/a/b\n", root), std::nullopt);  // nothing is mounted
  put(root / "a/b/memory.max", "max\n");
  put(root / "a/b/memory.current", "1000\n");
  EXPECT_EQ(cgroup_available_bytes("0::/a/b\n", root), std::nullopt);  // no limit
  put(root / "a/memory.max", "5000\n");
  put(root / "a/memory.current", "4000\n");
  put(root / "a/memory.stat", "anon 1000\ninactive_file 2000\nactive_file 500\nslab 3\n");
  EXPECT_EQ(cgroup_available_bytes("0::/a/b\n", root), 3500U);  // pages of files can be had back
  put(root / "a/b/memory.max", "1200\n");
  EXPECT_EQ(cgroup_available_bytes("0::/a/b\n", root), 200U);
  put(root / "a/b/memory.max", "900\n");
  EXPECT_EQ(cgroup_available_bytes("0::/a/b\n", root), 0U);  // beyond its limit already
}

TEST(CgroupTest, TheTightestQuotaOfCpusCounts) {
  const ScratchFolder folder;
  const std::filesystem::path root = folder / "cgroup";
  EXPECT_EQ(cgroup_cpus("0::/a/b\n", root), std::nullopt);  // nothing is mounted
  put(root / "a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(cgroup_cpus("0::/a/b\n", root), std::nullopt);  // no quota
  put(root / "a/cpu.max", "250000 100000\n");
  EXPECT_EQ(cgroup_cpus("0::/a/b\n", root), 2.5);
  put(root / "a/b/cpu.max", "50000 100000\n");
  EXPECT_EQ(cgroup_cpus("0::/a/b\n", root), 0.5);

  put(root / "cpu/cpu.cfs_quota_us", "300000\n");  // version 1, in a container that hides the group's path
  put(root / "cpu/cpu.cfs_period_us", "100000\n");
  put(root / "cpu/own/cpu.cfs_quota_us", "-1\n");
  put(root / "cpu/own/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpus("5:cpu,cpuacct:/own\n4:memory:/x\n", root), 3.0);
  EXPECT_EQ(cgroup_cpus("5:cpuset:/own\n", root), std::nullopt);
}

TEST(CgroupTest, Version1IsReadInItsOwnHierarchyAlsoWhereTheContainerHidesTheGroupsPath) {
  const ScratchFolder folder;
  const std::filesystem::path root = folder / "cgroup";
  put(root / "memory/memory.limit_in_bytes", "8000\n");
  put(root / "memory/memory.usage_in_bytes", "3000\n");
  put(root / "memory/memory.stat", "total_inactive_file 1000\ninactive_file 9\n");
  const std::string groups = "5:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/\n";
  EXPECT_EQ(cgroup_available_bytes(groups, root), 6000U);
  EXPECT_EQ(cgroup_available_bytes("4:memory_other:/\n", root), std::nullopt);
  EXPECT_EQ(cgroup_available_bytes("", root), std::nullopt);
  EXPECT_EQ(cgroup_available_bytes("no such form\n", root), std::nullopt);
}

struct Subject {
  RunConfig config;
  ModelSpec model;
};

Subject subject(const std::function<void(RunConfig&)>& change) {
  Subject one{.config = {.model = {.preset = "llama-1m"}}, .model = {}};
  one.config.numerics.compute = "f32";
  change(one.config);
  one.config.resolve(1000);
  one.model = one.config.model.spec(4096);
  return one;
}

std::string why_not(const Subject& one, const HostMemoryBudget& share) {
  return host_memory_shortfall(one.config, one.model, 1, share);
}

void expect_says(const std::string& why, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) EXPECT_NE(why.find(part), std::string::npos) << why;
}

TEST(HostMemoryTest, ARunThatDoesNotFitIsRefusedWithTheChangeThatDoes) {
  const Subject plain = subject([](RunConfig&) {});
  const std::uint64_t needed = host_bytes(plain.config, plain.model, 1);
  EXPECT_EQ(needed, plan_run(plain.config, plain.model, 1).memory.total());
  EXPECT_EQ(why_not(plain, {1, needed}), "");
  EXPECT_EQ(why_not(plain, {1, 0}), "");  // a system that does not say refuses nothing
  EXPECT_EQ(why_not(plain, {4, 4 * needed}), "");
  expect_says(why_not(plain, {1, needed - 1}),
              {"this run needs ", " of memory and this host has ", "train.micro_batch = 1"});
  expect_says(why_not(plain, {4, 4 * needed - 4}), {"for each of its 4 ranks here", "together"});
}

TEST(HostMemoryTest, ASequenceOfTwoBillionTokensIsRefusedWithTheLongestThatFits) {
  const Subject endless = subject([](RunConfig& c) { c.train.sequence = 2147483647; });
  const std::string why = why_not(endless, {1, 4 * kGiB});
  expect_says(why, {"TiB of memory", "4.0 GiB free", "train.sequence = "});
  EXPECT_THROW(check_host_memory(endless.config, endless.model, 1, {1, 4 * kGiB}), Error);
  const std::size_t at = why.find("train.sequence = ") + std::string("train.sequence = ").size();
  const Subject shorter = subject([&](RunConfig& c) { c.train.sequence = std::stoi(why.substr(at)); });
  EXPECT_EQ(why_not(shorter, {1, 4 * kGiB}), "");
}

TEST(HostMemoryTest, WhatNoHostHoldsIsRefusedThoughItsBytesOverflow) {
  const Subject most = subject([](RunConfig& c) { c.train.sequence = c.train.batch = 2147483647, c.train.steps = 1; });
  EXPECT_FALSE(why_not(most, {1, 1024 * kGiB}).empty());
  try {
    check_row_count(most.config);
    ADD_FAILURE() << "more rows than an int counts must be refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    expect_says(error.what(), {"train.micro_batch 2147483647 x train.sequence 2147483647", "at most 2147483647"});
  }
}

TEST(HostMemoryTest, WhereNoShorterSequenceHelpsFewerRanksDoOrASmallerModel) {
  const Subject large = subject([](RunConfig& c) {
    c.model.preset = "llama-124m", c.numerics.slots = 1, c.train.batch = 1, c.train.sequence = 64;
  });
  const std::uint64_t weights = plan_run(large.config, large.model, 1).memory.weights;
  expect_says(why_not(large, {4, 8 * weights}), {"start 1 rank a host"});
  expect_says(why_not(large, {1, weights}), {"choose a smaller model"});
  const Subject slots = subject([](RunConfig& c) { c.model.preset = "llama-124m", c.train.sequence = 32; });
  const MemoryPlan plan = plan_run(slots.config, slots.model, 1).memory;
  expect_says(why_not(slots, {1, plan.total() - plan.slot_partials / 2}), {"numerics.slots = "});
}

}  // namespace
}  // namespace slipway
