// Checks properties that the speed depends on, without a clock: a step allocates no large blocks, its passes over
// memory stay within the table below, and the bf16 copy of the weights is written once. `ctest -L bench-smoke` runs it.
#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "kernels/backend/cpu_backend.hpp"
#include "kernels/backend/runtime.hpp"
#include "kernels/instrument/profiled.hpp"
#include "src/core/log.hpp"
#include "src/core/profile.hpp"
#include "src/core/random.hpp"
#include "src/data/prepare.hpp"
#include "src/train/trainer.hpp"
#include "tests/support/tiny_tokenizer.hpp"

namespace {

std::atomic<bool> is_tracking = false;
std::atomic<std::size_t> large_allocations = 0, largest_allocation = 0;

void record_allocation(std::size_t bytes) {
  constexpr std::size_t kLarge = 64 * 1024;
  if (bytes < kLarge || !is_tracking.load(std::memory_order_relaxed)) return;
  ++large_allocations;
  std::size_t before = largest_allocation;
  while (bytes > before && !largest_allocation.compare_exchange_weak(before, bytes)) {
  }
}

}  // namespace

// The program's own malloc in front of glibc's, which is still there under these names. Sanitizers bring their own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kInterceptsMalloc = false;
#else
constexpr bool kInterceptsMalloc = true;
extern "C" {
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* block, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);
void* malloc(std::size_t bytes) {
  record_allocation(bytes);
  return __libc_malloc(bytes);
}
void* calloc(std::size_t count, std::size_t bytes) {
  record_allocation(count * bytes);
  return __libc_calloc(count, bytes);
}
void* realloc(void* block, std::size_t bytes) {
  record_allocation(bytes);
  return __libc_realloc(block, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  record_allocation(bytes);
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** block, std::size_t alignment, std::size_t bytes) {
  record_allocation(bytes);
  *block = __libc_memalign(alignment, bytes);
  return *block == nullptr ? ENOMEM : 0;
}
}
#endif

namespace slipway {
namespace {

constexpr int kLayers = 3, kSequence = 512, kMicroBatch = 4, kBatch = 8;

/// Two steps of a model large enough that its buffers are large blocks, then one that is watched.
class StepStructure : public testing::Test {
 protected:
  StepStructure() : folder_(std::filesystem::temp_directory_path() / join("slipway-structure-", ::getpid())) {
    std::filesystem::create_directories(folder_);
    std::ofstream text(folder_ / "text.txt");
    const Random random(3, stream_of("text"));
    for (std::uint64_t i = 0; i < 60000; ++i)
      text << "the thing in a ring " << random.uniform_int(50, i) << (i % 7 == 0 ? "\n" : " ");
    text.close();
    const log::QuietScope quiet;
    PrepareConfig prepare{.threads = 1};
    prepare.text.document_bytes = 4000;
    prepare_corpus({.paths = {(folder_ / "text.txt").string()}}, prepare, test::tiny_tokenizer(271), folder_ / "data");
  }
  ~StepStructure() override { std::filesystem::remove_all(folder_); }

  /// Spans of the third step, with `large_allocations` counted over it.
  std::vector<profile::Span> profile_third_step(const std::string& compute) {
    RunConfig config;
    config.model = {.preset = "llama-1m",
                    .shape = {.layers = kLayers, .width = 64, .heads = 2, .kv_heads = 2, .ffn = 160}};
    config.train.steps = 3;
    config.train.sequence = kSequence;
    config.train.batch = kBatch;
    config.train.micro_batch = kMicroBatch;
    config.numerics.compute = compute;
    config.resolve(100);
    const Runtime runtime({.threads = 2});
    const Corpus corpus = Corpus::open(folder_ / "data");
    std::vector<profile::Span> spans;
    run_thread_group(1, [&](Group& world_group) {
      Mesh mesh = make_thread_mesh(world_group, 1);
      const Backend backend = profiled(runtime.backend());
      Model model(config.model.spec(corpus.tokenizer().vocabulary_size()), backend, *mesh.tensor,
                  {.compute_dtype = config.compute_dtype(), .slots = config.numerics.slots});
      model.parameters().initialize(1);
      model.update_compute_copy();
      Loader loader(corpus, Split::kTrain, config.data, config.train.sequence, config.train.seed);
      Trainer trainer(config, model, backend, loader, nullptr, mesh, world_group);
      const auto step = [&trainer] {
        trainer.step();
        trainer.report();
      };
      step();
      step();
      large_allocations = 0, largest_allocation = 0;
      is_tracking = true;
      step();
      is_tracking = false;
      profile::start();  // a step of its own: keeping spans takes memory
      step();
      spans = profile::stop();
    });
    return spans;
  }

  std::filesystem::path folder_;
};

/// Calls of every op, and the bytes that they counted.
struct OpStats {
  int calls = 0;
  double bytes = 0;
};
std::map<std::string, OpStats> op_stats(const std::vector<profile::Span>& spans) {
  std::map<std::string, OpStats> stats;
  for (const profile::Span& span : spans) {
    ++stats[span.name].calls;
    stats[span.name].bytes += span.cost.bytes;
  }
  return stats;
}

TEST_F(StepStructure, AThirdStepTakesNoLargeBlockOfMemory) {
  if (!kInterceptsMalloc) GTEST_SKIP() << "a sanitizer's malloc cannot be watched";
  if (cpu_backend().instructions == std::string("base")) GTEST_SKIP() << "without AVX-512 oneDNN's sgemm takes scratch";
  for (const char* compute : {"f32", "bf16"}) {
    profile_third_step(compute);
    EXPECT_EQ(large_allocations, 0u) << compute << ": the largest has " << largest_allocation << " bytes";
  }
  large_allocations = 0, is_tracking = true;  // large blocks are counted at all
  const Buffer<float> block(65536), huge(2 << 20);
  is_tracking = false;
  EXPECT_EQ(large_allocations, 2u);
}

// Calls in a step of kBatch / kMicroBatch = 2 micro-batches and 3 layers: 4 matmuls in the forward pass (q k v; output;
// gate up; down) and 8 in the backward pass of a layer, 3 for the head's one tile; 2 norms of a layer, recomputed in
// the backward pass, and the last one; one rope of q and k together.
const std::map<std::string, int> kExpectedCalls = {
    {"matmul fprop (x W^T)", 2 * (4 * kLayers + 1)},
    {"matmul dgrad (dy W)", 2 * (4 * kLayers + 1)},
    {"matmul wgrad (dy^T x)", 2 * (4 * kLayers + 1)},
    {"rms_norm", 2 * (4 * kLayers + 1)},
    {"rms_norm_grad", 2 * (2 * kLayers + 1)},
    {"rope", 2 * 2 * kLayers},
    {"attention", 2 * kLayers},
    {"attention_grad", 2 * kLayers},
    {"swiglu", 2 * kLayers},
    {"swiglu_grad", 2 * kLayers},
    {"add", 1},  // the two slots' gradients
    {"embedding", 2},
    {"embedding_grad", 2},
    {"softmax_partials", 2},
    {"merge_partials", 2 * 2},  // of tiles, then of ranks
    {"cross_entropy_grad", 2},
    {"weighted_sum", 2},
    {"first_non_finite", 1},
    {"clip_coef", 1},
};
// One pass over the arena, tensor by tensor or chunk by chunk; a test below checks their bytes.
const std::set<std::string> kPerChunkOps = {"adamw", "sum_squares"};
// Bytes that the row ops of a layer read and write for one token, with bf16 activations and an f32 residual stream:
// norms 4 x 6 D, their gradients with the bf16 copy of the stream's gradient 2 x 18 D, RoPE of q and k forward and
// backward 2 x 8 D, SwiGLU 6 F and its gradient 12 F; and 8 D for a third of the last norm.
constexpr double kD = 64, kF = 160;
constexpr double kRowOpBytes = 24 * kD + 36 * kD + 16 * kD + 6 * kF + 12 * kF + 8 * kD;

TEST_F(StepStructure, PassesOverMemoryStayWithinTheTable) {
  const std::map<std::string, OpStats> stats = op_stats(profile_third_step("bf16"));
  // The head processes one chunk of rows at a time: a micro-batch of 2048 rows has 4.
  constexpr int kChunks = kMicroBatch * kSequence / VocabTiles::for_device(true).rows;
  for (const auto& [op, calls] : kExpectedCalls) {
    const bool is_head_op = op.ends_with("_partials") || op == "cross_entropy_grad";
    const int extra_calls = is_head_op ? calls * (kChunks - 1) : op.starts_with("matmul") ? 2 * (kChunks - 1) : 0;
    const auto entry = stats.find(op);
    ASSERT_NE(entry, stats.end()) << op;
    EXPECT_EQ(entry->second.calls, calls + extra_calls) << op;
  }
  for (const auto& [op, entry] : stats)
    EXPECT_TRUE(entry.bytes == 0 || kExpectedCalls.contains(op) || kPerChunkOps.contains(op))
        << op << " is in no table";
  double bytes = 0;
  for (const char* op : {"rms_norm", "rms_norm_grad", "rope", "swiglu", "swiglu_grad"}) bytes += stats.at(op).bytes;
  EXPECT_LE(bytes / (2.0 * kMicroBatch * kSequence * kLayers), kRowOpBytes);
}

TEST_F(StepStructure, WeightsAreNarrowedOnceAStepAndInTheOptimizersPass) {
  const std::map<std::string, OpStats> stats = op_stats(profile_third_step("bf16"));
  EXPECT_FALSE(stats.contains("to_bf16")) << "the optimizer and the norms' gradients write narrow copies themselves";
  const double parameters = stats.at("sum_squares").bytes / 4;
  EXPECT_NEAR(stats.at("adamw").bytes, 30 * parameters, 0.01 * 30 * parameters);  // w m v twice, g, and w in bf16
}

}  // namespace
}  // namespace slipway
