// Saving: refused input, the state after a failure, and agreement of ranks.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

#include "src/core/file.hpp"
#include "src/train/checkpoint_saver.hpp"
#include "tests/support/checkpoint_state.hpp"
#include "tests/support/core_files.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;
using Phase = CheckpointWriter::Phase;

std::size_t count_entries(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(CheckpointSave, KeepsEverythingThatTheInfoSays) {
  const ScratchFolder scratch;
  CheckpointInfo info = make_small_info(100);
  info.layout = {2, 1, 1};
  const fs::path folder = save(scratch.path(), info, shard_state(make_small_state(), 2, 1, 3));
  EXPECT_EQ(folder.filename(), "step-00000100");
  EXPECT_EQ(count_entries(folder), 5u);
  EXPECT_EQ(count_entries(scratch.path()), 1u);
  const CheckpointReader reader(folder);
  const CheckpointInfo& loaded = reader.info();
  EXPECT_EQ(loaded.step, 100);
  EXPECT_EQ(loaded.kind, "full");
  EXPECT_EQ(loaded.run_id, info.run_id);
  EXPECT_EQ(loaded.layout.data, 2);
  EXPECT_EQ(loaded.tokenizer, info.tokenizer);
  EXPECT_EQ(loaded.config, info.config);
  EXPECT_EQ(loaded.architecture, info.architecture);
  EXPECT_EQ(loaded.data, info.data);
  EXPECT_EQ(loaded.random, info.random);
  EXPECT_EQ(loaded.history, info.history);
  EXPECT_EQ(loaded.build, info.build);
  EXPECT_EQ(loaded.sections, info.sections);
  EXPECT_EQ(reader.tensors().size(), 9u);
  EXPECT_EQ(reader.tensors()[0].kind, "value");
  EXPECT_EQ(reader.tensors()[0].name, "blk.0.attn_norm.weight");
}

TEST(CheckpointSave, TheStateMayChangeOnceTheWriterWasTold) {
  const ScratchFolder scratch;
  const TensorState state = make_small_state();
  auto ranks = shard_state(state, 1, 1, 3);
  CheckpointWriter writer(scratch.path(), 0, 1);
  for (std::int64_t step = 1; step <= 20; ++step) {  // a writer is somewhere else in its work each time
    writer.begin(make_small_info(step), ranks[0].slices());
    const auto unchanged = ranks;
    if (step % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(40 * step));
    writer.snapshot();
    for (auto& part : ranks[0].parts) std::fill(part.numbers.begin(), part.numbers.end(), 5.0f);
    writer.snapshot();  // the next step's: nothing is left to copy
    writer.wait();
    ASSERT_EQ(writer.phase(), Phase::kWritten);
    writer.publish();
    writer.wait();
    writer.finish();
    CheckpointReader reader(scratch.path() / checkpoint_name(step));
    for (const auto& [key, entry] : state.entries) EXPECT_EQ(reader.read_tensor(key.second, key.first), entry.numbers);
    for (std::size_t i = 0; i < ranks[0].parts.size(); ++i) ranks[0].parts[i].numbers = unchanged[0].parts[i].numbers;
  }
}

TEST(CheckpointSave, RefusesNanAndInfinityNamingTheTensor) {
  const ScratchFolder scratch;
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    TensorState state = make_small_state();
    state.entries[{"adam_m", "embedding.weight"}].numbers[3 * 6 + 4] = bad;
    const auto ranks = shard_state(state, 1, 1, 1);
    CheckpointWriter writer(scratch.path(), 0, 1);
    for (const char* substring : {"adam_m of embedding.weight is ", "at [3, 4]"}) {
      writer.begin(make_small_info(1), ranks[0].slices());
      expect_error(Fault::kNumeric, substring, [&] { writer.wait(); });
      writer.snapshot();  // does not wait for a save that has failed
      writer.abandon();
      EXPECT_EQ(writer.phase(), Phase::kIdle);
    }
  }
  EXPECT_EQ(count_entries(scratch.path()), 0u);
}

TEST(CheckpointSave, AcceptsTheLargestFiniteAndTheSmallestNumbers) {
  const ScratchFolder scratch;
  TensorState state = make_small_state();
  auto& numbers = state.entries[{"value", "embedding.weight"}].numbers;
  numbers[0] = std::numeric_limits<float>::max();
  numbers[1] = -std::numeric_limits<float>::max();
  numbers[2] = std::numeric_limits<float>::denorm_min();
  numbers[3] = -0.0f;
  CheckpointReader reader(save(scratch.path(), make_small_info(1), shard_state(state, 1, 1, 1)));
  const auto actual = reader.read_tensor("embedding.weight");
  EXPECT_EQ(actual, numbers);
  EXPECT_TRUE(std::signbit(actual[3]));
}

TEST(CheckpointSave, LongTensorsAreStoredInPiecesOfBoundedSize) {
  const ScratchFolder scratch;
  const std::int64_t rows = 257, cols = 1 << 17;  // 128.5 MiB
  std::vector<float> numbers(static_cast<std::size_t>(rows * cols));
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i % 1000003);
  const SliceView slice{full_slice("long", "value", {rows, cols}), numbers.data(), cols};
  CheckpointWriter writer(scratch.path(), 0, 1);
  writer.begin(make_small_info(1), {&slice, 1});
  writer.wait();
  writer.publish();
  writer.wait();
  writer.finish();
  CheckpointReader reader(scratch.path() / checkpoint_name(1));
  EXPECT_EQ(reader.find("long")->slices.size(), 3u);
  EXPECT_EQ(reader.read_tensor("long"), numbers);
  const Slice corner{"long", "value", {rows, cols}, {127, cols - 3}, {3, 2}};  // over a border of pieces
  std::vector<float> actual(6);
  reader.read(corner, actual.data(), 2);
  for (std::int64_t r = 0; r < 3; ++r)
    for (std::int64_t c = 0; c < 2; ++c)
      EXPECT_EQ(actual[static_cast<std::size_t>(r * 2 + c)],
                numbers[static_cast<std::size_t>((127 + r) * cols + cols - 3 + c)]);
}

TEST(CheckpointSave, ALayoutThatLosesOrDoublesElementsIsNotPublished) {
  const ScratchFolder scratch;
  auto ranks = shard_state(make_small_state(), 2, 1, 3);
  auto lost = ranks, doubled = ranks;
  lost[1].parts.pop_back();
  doubled[1].parts.push_back(doubled[0].parts.back());
  doubled[1].parts.push_back(doubled[0].parts.front());
  expect_error(Fault::kBug, "leave a gap", [&] { save(scratch.path(), make_small_info(1), lost); });
  expect_error(Fault::kBug, "overlap", [&] { save(scratch.path(), make_small_info(1), doubled); });
  EXPECT_EQ(count_entries(scratch.path()), 0u);
}

TEST(CheckpointSave, AnUnpublishedSaveLeavesTheEarlierCheckpointInForce) {
  const ScratchFolder scratch;
  const auto ranks = shard_state(make_small_state(), 1, 1, 3);
  save(scratch.path(), make_small_info(1), ranks);
  {
    CheckpointWriter writer(scratch.path(), 0, 1);
    writer.begin(make_small_info(2), ranks[0].slices());
    writer.wait();
    EXPECT_TRUE(fs::exists(scratch.path() / "step-00000002.partial"));
    EXPECT_EQ(find_checkpoint(scratch.path()).step, 1);
  }
  EXPECT_FALSE(fs::exists(scratch.path() / "step-00000002.partial"));
  EXPECT_EQ(find_checkpoint(scratch.path()).step, 1);
}

TEST(CheckpointSave, LeftoversOfAKilledSaveDoNotReachTheNextOne) {
  const ScratchFolder scratch;
  const fs::path partial = scratch.path() / "step-00000003.partial";
  fs::create_directories(partial / "folder");
  atomic_write_file(partial / "rank-7.3-1a2b3c4d.h5", "half");
  const fs::path folder = save(scratch.path(), make_small_info(3), shard_state(make_small_state(), 2, 1, 3));
  EXPECT_EQ(count_entries(folder), 5u);
  CheckpointReader(folder).verify_all();
}

TEST(CheckpointSave, SavingAStepAgainReplacesItWhole) {
  const ScratchFolder scratch;
  save(scratch.path(), make_small_info(3), shard_state(make_small_state(1), 4, 1, 3));
  const TensorState second = make_small_state(50);
  const fs::path folder = save(scratch.path(), make_small_info(3), shard_state(second, 1, 1, 3));
  CheckpointReader reader(folder);
  reader.verify_all();
  EXPECT_EQ(reader.read_tensor("embedding.weight"), (second.entries.at({"value", "embedding.weight"}).numbers));
  EXPECT_EQ(count_entries(scratch.path()), 1u);
}

TEST(CheckpointSave, ALimitOnFileSizesIsAStorageErrorAndNothingIsLost) {
  const ScratchFolder scratch;
  TensorState large;
  large.add("large", {300, 1000}, 1);
  const auto ranks = shard_state(large, 1, 1, 3);
  save(scratch.path(), make_small_info(1), ranks);
  rlimit old_limit{};
  getrlimit(RLIMIT_FSIZE, &old_limit);
  signal(SIGXFSZ, SIG_IGN);  // so that the write fails with EFBIG, as in the program
  const rlimit tight_limit{1 << 20, old_limit.rlim_max};
  setrlimit(RLIMIT_FSIZE, &tight_limit);
  expect_error(Fault::kStorage, "step 2 is not saved", [&] { save(scratch.path(), make_small_info(2), ranks); });
  expect_error(Fault::kStorage, "step 1 stays in force", [&] { save(scratch.path(), make_small_info(2), ranks); });
  setrlimit(RLIMIT_FSIZE, &old_limit);
  signal(SIGXFSZ, SIG_DFL);
  EXPECT_EQ(count_entries(scratch.path()), 1u);
  CheckpointReader(find_checkpoint(scratch.path()).folder).verify_all();
  CheckpointReader(save(scratch.path(), make_small_info(2), ranks)).verify_all();  // the library is not left broken
}

/// A temporary file system of a given size.
class SmallDisk {
 public:
  SmallDisk(const fs::path& path, const char* options) : path_(path) {
    fs::create_directories(path);
    mounted_ = ::mount("none", path.c_str(), "tmpfs", 0, options) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }

 private:
  fs::path path_;
  bool mounted_;
};

TEST(CheckpointSave, AFullDiskSaysWhatIsNeededAndWhatIsFree) {
  const ScratchFolder scratch;
  TensorState large;
  large.add("large", {300, 1000}, 1);  // 3.4 MiB with its moments
  const auto ranks = shard_state(large, 1, 1, 3);
  const SmallDisk disk(scratch / "disk", "size=10m");
  if (!disk.mounted()) GTEST_SKIP() << "mounting needs root: " << errno_message();
  save(scratch / "disk", make_small_info(1), ranks);
  const std::string filler(3 << 20, 'x');
  atomic_write_file(scratch / "disk" / "filler", filler);
  expect_error(Fault::kStorage, "the disk is too full; rank 0 needs 4648576 bytes and ",
               [&] { save(scratch / "disk", make_small_info(2), ranks); });
  EXPECT_EQ(list_checkpoints(scratch / "disk").size(), 1u);
  EXPECT_FALSE(fs::exists(scratch / "disk" / "step-00000002.partial"));
  CheckpointReader(find_checkpoint(scratch / "disk").folder).verify_all();
  fs::remove(scratch / "disk" / "filler");
  CheckpointReader(save(scratch / "disk", make_small_info(2), ranks)).verify_all();
}

TEST(CheckpointSave, ADiskThatFillsWhileSeveralRanksWriteIsNoticedByOneOfThem) {
  const ScratchFolder scratch;
  TensorState large;
  large.add("large", {300, 1000}, 1);
  const auto ranks = shard_state(large, 4, 1, 3);
  const SmallDisk disk(scratch / "disk", "size=3m");
  if (!disk.mounted()) GTEST_SKIP() << "mounting needs root: " << errno_message();
  expect_error(Fault::kStorage, "there is no earlier checkpoint",
               [&] { save(scratch / "disk", make_small_info(2), ranks); });
  EXPECT_EQ(count_entries(scratch / "disk"), 0u);
}

TEST(CheckpointSave, RanksThatSaveTogetherPublishOnceAndFailAlike) {
  const ScratchFolder scratch;
  const TensorState state = make_small_state();
  const auto ranks = shard_state(state, 2, 2, 3);
  TensorState bad_state = state;
  bad_state.entries[{"value", "embedding.weight"}].numbers[0] = NAN;
  const auto bad_ranks = shard_state(bad_state, 2, 2, 3);
  std::atomic<int> published{0}, refused{0}, failed{0};
  run_thread_group(4, [&](Group& group) {
    const std::size_t rank_index = static_cast<std::size_t>(group.rank());
    CheckpointSaver saver(scratch / "run", group);
    for (const std::int64_t step : {1, 2}) {
      saver.begin(make_small_info(step), ranks[rank_index].slices());
      EXPECT_TRUE(saver.active());
      std::optional<std::int64_t> saved_step;
      while (!saved_step) saved_step = saver.poll();
      EXPECT_EQ(*saved_step, step);
      EXPECT_TRUE(fs::exists(scratch.path() / "run" / checkpoint_name(step)));
      EXPECT_FALSE(saver.active());
      ++published;
    }
    saver.begin(make_small_info(3), bad_ranks[rank_index].slices());
    try {
      saver.drain();
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::kNumeric) << error.what();
      ++refused;
    }
    // A file is in the place of a rank's folder: every rank throws the same storage error.
    if (rank_index == 0) atomic_write_file(scratch.path() / "run" / "step-00000004.partial", "in the way");
    group.barrier();
    saver.begin(make_small_info(4), ranks[rank_index].slices());
    try {
      saver.drain();
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::kStorage) << error.what();
      EXPECT_NE(std::string(error.what()).find("step 2 stays in force"), std::string::npos) << error.what();
      ++failed;
    }
    saver.begin(make_small_info(5), ranks[rank_index].slices());
    EXPECT_EQ(saver.drain(), 5);
  });
  EXPECT_EQ(published, 8);
  EXPECT_EQ(refused, 4);
  EXPECT_EQ(failed, 4);
  EXPECT_EQ(count_entries(scratch.path() / "run"), 3u);
  CheckpointReader(find_checkpoint(scratch.path() / "run").folder).verify_all();
}

}  // namespace
}  // namespace slipway
