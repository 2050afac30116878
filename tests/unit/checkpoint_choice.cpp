// Selecting a checkpoint by path, and pruning.
#include <gtest/gtest.h>

#include "src/core/file.hpp"
#include "src/train/checkpoint_manager.hpp"
#include "tests/support/checkpoint_state.hpp"
#include "tests/support/core_files.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;

/// Empty folders with the names of published checkpoints; selecting and pruning depend on names only.
void make_steps(const fs::path& checkpoints, std::initializer_list<std::int64_t> steps) {
  for (const std::int64_t step : steps) fs::create_directories(checkpoints / checkpoint_name(step) / "content");
}

std::vector<std::int64_t> steps_in(const fs::path& checkpoints) {
  std::vector<std::int64_t> steps;
  for (const CheckpointRef& ref : list_checkpoints(checkpoints)) steps.push_back(ref.step);
  return steps;
}

using Steps = std::vector<std::int64_t>;

TEST(CheckpointChoice, NamesSortAsNumbersAndOtherEntriesAreIgnored) {
  const ScratchFolder scratch;
  make_steps(scratch.path(), {900, 5, 123456789, 1000});
  for (const char* other : {"step-12", "step-00000007.partial", "step-0000000x", "other"})
    fs::create_directories(scratch / other);
  atomic_write_file(scratch / "step-00000008", "a file");
  EXPECT_EQ(steps_in(scratch.path()), (Steps{5, 900, 1000, 123456789}));
  EXPECT_EQ(steps_in(scratch / "nowhere"), Steps{});
  EXPECT_EQ(checkpoint_name(100), "step-00000100");
}

TEST(CheckpointChoice, ARunMeansItsNewestCheckpointUnlessAskedOtherwise) {
  const ScratchFolder scratch;
  const fs::path run = scratch / "run", checkpoints = run / "checkpoints";
  make_steps(checkpoints, {100, 200, 300});
  EXPECT_EQ(find_checkpoint(run).step, 300);
  EXPECT_EQ(find_checkpoint(run.string() + "/").step, 300);
  EXPECT_EQ(find_checkpoint(checkpoints).step, 300);
  EXPECT_EQ(find_checkpoint(run, "200").folder, checkpoints / "step-00000200");
  EXPECT_EQ(find_checkpoint((checkpoints / "step-00000100").string() + "/").step, 100);
  expect_error(Fault::kStorage, "no best checkpoint", [&] { find_checkpoint(run, "best"); });
  mark_best(checkpoints, BestCheckpoint{100, 2.5});
  EXPECT_EQ(find_checkpoint(run, "best").step, 100);
  EXPECT_EQ(best_checkpoint(checkpoints)->val_loss, 2.5);
  expect_error(Fault::kStorage, "no checkpoint of step 250: there are 100, 200, 300",
               [&] { find_checkpoint(run, "250"); });
  expect_error(Fault::kConfig, "expected best or a step", [&] { find_checkpoint(run, "newest"); });
  expect_error(Fault::kConfig, "is one checkpoint", [&] { find_checkpoint(checkpoints / "step-00000100", "best"); });
  expect_error(Fault::kStorage, "there is no ", [&] { find_checkpoint(scratch / "nowhere"); });
  expect_error(Fault::kStorage, "holds no complete checkpoint", [&] { find_checkpoint(scratch.path()); });
  fs::create_directories(checkpoints / "step-00000400.partial");
  EXPECT_EQ(find_checkpoint(run).step, 300);
  expect_error(Fault::kStorage, "never finished", [&] { find_checkpoint(checkpoints / "step-00000400.partial"); });
  atomic_write_file(checkpoints / "best.json", "{}");
  expect_error(Fault::kStorage, "best.json is damaged", [&] { find_checkpoint(run, "best"); });
}

TEST(CheckpointChoice, OtherFoldersAreNamedForWhatTheyAre) {
  const ScratchFolder scratch;
  const fs::path data = scratch / "data", hf = scratch / "hf";
  fs::create_directories(data);
  atomic_write_file(data / "manifest.json", R"({"schema": "slipway.data", "schema_version": 1})");
  atomic_write_file(data / "manifest.sha256", "0\n");
  for (const char* which : {"", "best"})
    expect_error(Fault::kConfig, "data is a data folder, not a model; give a run folder or a checkpoint folder",
                 [&] { find_checkpoint(data, which); });
  fs::create_directories(hf);
  atomic_write_file(hf / "config.json", "{}");
  expect_error(Fault::kStorage, "holds no complete checkpoint", [&] { find_checkpoint(hf); });
  atomic_write_file(hf / "model-00001-of-00002.safetensors", "");
  expect_error(Fault::kConfig, "hf is a Hugging Face folder, not a run or a checkpoint; give the run",
               [&] { find_checkpoint(hf); });
}

TEST(CheckpointChoice, AMovedAndRenamedCheckpointIsStillOne) {
  const ScratchFolder scratch;
  const fs::path folder = save(scratch / "run", make_small_info(42), shard_state(make_small_state(), 2, 1, 3));
  fs::rename(folder, scratch / "mine");
  EXPECT_EQ(find_checkpoint(scratch / "mine").step, 42);
  CheckpointReader(scratch / "mine").verify_all();
}

TEST(CheckpointChoice, TheNewestAndTheBestAreKept) {
  const ScratchFolder scratch;
  make_steps(scratch.path(), {1, 2, 3, 4, 5, 6});
  prune_checkpoints(scratch.path(), 3, 2);
  EXPECT_EQ(steps_in(scratch.path()), (Steps{2, 4, 5, 6}));
  prune_checkpoints(scratch.path(), 3, 5);
  EXPECT_EQ(steps_in(scratch.path()), (Steps{4, 5, 6}));
  prune_checkpoints(scratch.path(), 9, std::nullopt);
  EXPECT_EQ(steps_in(scratch.path()), (Steps{4, 5, 6}));
  prune_checkpoints(scratch.path(), 0, std::nullopt);
  EXPECT_EQ(steps_in(scratch.path()), Steps{6});
}

TEST(CheckpointChoice, ARunThatGoesOnFromAnOlderStepSetsTheLaterOnesAside) {
  const ScratchFolder scratch;
  make_steps(scratch.path(), {1, 2, 3});
  EXPECT_EQ(unused_set_aside_suffix(scratch.path()), ".set-aside");
  EXPECT_EQ(set_aside_after(scratch.path(), 1, ".set-aside"), (Steps{2, 3}));
  EXPECT_EQ(steps_in(scratch.path()), Steps{1});
  make_steps(scratch.path(), {2});
  EXPECT_EQ(unused_set_aside_suffix(scratch.path()), ".set-aside-1");
  EXPECT_EQ(set_aside_after(scratch.path(), 1, ".set-aside-1"), Steps{2});
  EXPECT_TRUE(fs::exists(scratch / "step-00000002.set-aside"));
  EXPECT_TRUE(fs::exists(scratch / "step-00000002.set-aside-1"));
  EXPECT_EQ(set_aside_after(scratch.path(), 1, ".set-aside-2"), Steps{});
}

TEST(CheckpointChoice, WhatWasSetAsideCanBeChosenByNameAndWhereItIsClearByStep) {
  const ScratchFolder scratch;
  const fs::path run = scratch / "run", checkpoints = run / "checkpoints";
  make_steps(checkpoints, {1, 2, 3});
  set_aside_after(checkpoints, 1, ".set-aside");
  EXPECT_EQ(find_checkpoint(run).step, 1);
  EXPECT_EQ(find_checkpoint(run, "3").folder, checkpoints / "step-00000003.set-aside");
  make_steps(checkpoints, {2, 3});
  EXPECT_EQ(find_checkpoint(run, "3").folder, checkpoints / "step-00000003");
  set_aside_after(checkpoints, 2, ".set-aside-1");
  expect_error(Fault::kConfig,
               "name one of them: step-00000002.set-aside, step-00000003.set-aside, step-00000003.set-aside-1",
               [&] { find_checkpoint(run, "3"); });
  EXPECT_EQ(find_checkpoint(run, "step-00000003.set-aside-1").folder, checkpoints / "step-00000003.set-aside-1");
  EXPECT_EQ(find_checkpoint(run, "2").folder, checkpoints / "step-00000002");
  expect_error(Fault::kStorage, "there are 1, 2; set aside: step-00000002.set-aside",
               [&] { find_checkpoint(run, "9"); });
  EXPECT_EQ(set_aside_suffix("step-00000003.set-aside-1"), ".set-aside-1");
  for (const char* other :
       {"step-00000003", "step-00000003.set-aside-x", "step-00000003.set-asides", "step-00000003.partial"})
    EXPECT_EQ(set_aside_suffix(other), "") << other;
  EXPECT_EQ(list_set_aside(scratch / "nowhere").size(), 0U);
}

TEST(CheckpointChoice, UnfinishedSavesAndRemovalsAreCleanedAway) {
  const ScratchFolder scratch;
  make_steps(scratch.path(), {1});
  for (const char* name : {"step-00000002.partial", "step-00000001.removed.partial", "step-00000001.replaced.partial"})
    fs::create_directories(scratch.path() / name / "content");
  atomic_write_file(scratch / "best.json.partial-17", "");
  const std::vector<const char*> others{"notes.partial", "step-00000003.mine.partial", "best.json.partial-x",
                                        "step-.partial"};
  for (const char* name : others) fs::create_directories(scratch.path() / name / "content");
  EXPECT_EQ(remove_partials(scratch.path()), 4);
  for (const char* name : others) EXPECT_TRUE(fs::remove_all(scratch.path() / name) > 0) << name << " is not ours";
  EXPECT_EQ(remove_partials(scratch.path()), 0);
  EXPECT_EQ(steps_in(scratch.path()), Steps{1});
  EXPECT_EQ(remove_partials(scratch / "nowhere"), 0);
}

TEST(CheckpointManager, CallsRankZeroOnceForEveryPublishedCheckpoint) {
  const ScratchFolder scratch;
  const fs::path checkpoints = scratch / "run" / "checkpoints";
  const Json history = {{"val_losses", Json::array()}};
  const std::vector<RankShards> shards = shard_state(make_small_state(), /*data=*/2, /*tensor=*/1, /*seed=*/3);
  Steps published;
  run_thread_group(2, [&](Group& world_group) {
    const auto on_published = [&](std::int64_t step, const fs::path& folder) {
      EXPECT_EQ(world_group.rank(), 0);
      EXPECT_EQ(folder, checkpoints / checkpoint_name(step));
      EXPECT_EQ(CheckpointReader(folder).info().step, step) << "not complete";
      published.push_back(step);
    };
    CheckpointManager manager(checkpoints, /*keep=*/1, history, world_group, on_published);
    const std::vector<SliceView> rank_slices = shards[static_cast<std::size_t>(world_group.rank())].slices();
    for (const std::int64_t step : {10, 20, 30}) manager.begin(make_small_info(step), rank_slices);
    manager.drain();
    manager.poll();  // nothing is in flight: nothing is published again
  });
  EXPECT_EQ(published, (Steps{10, 20, 30}));
  EXPECT_EQ(steps_in(checkpoints), Steps{30});
}

}  // namespace
}  // namespace slipway
