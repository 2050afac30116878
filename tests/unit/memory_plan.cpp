// Bytes by kind: a dry run's are a real step's and those of the shapes; what is too large for one lies on a line.
#include "src/plan/plan.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "kernels/backend/cpu_backend.hpp"
#include "kernels/backend/device.hpp"
#include "src/core/allocation_tag.hpp"
#include "src/core/clock.hpp"
#include "src/data/packing.hpp"
#include "src/model/model.hpp"
#include "src/model/model_tensors.hpp"
#include "src/optim/step_update.hpp"
#include "src/plan/dry_run.hpp"

namespace slipway {
namespace {

constexpr int kVocabulary = 1000;

struct PlannedRun {
  RunConfig config;
  ModelSpec model;

  MemoryPlan planned(int data_parallel_size = 1) const { return plan_rank(config, model, data_parallel_size).memory; }
};

template <class Modify>
PlannedRun make_run(const Modify& modify) {
  PlannedRun run{.config = {.model = {.preset = "llama-1m"}}, .model = {}};
  run.config.numerics.compute = "f32";
  run.config.train.batch = 8, run.config.train.micro_batch = 2, run.config.train.sequence = 64;
  run.config.reporting.sample_every = run.config.reporting.validate_every = 0;
  modify(run.config);
  run.config.resolve(1000);
  run.model = run.config.model.spec(kVocabulary);
  return run;
}

/// The host's memory, with what is allocated from it.
class TaggedHostMemory final : public HostSpace {
 public:
  void* allocate(std::size_t bytes) override {
    void* block = host_memory().allocate(bytes);
    blocks_[block] = {AllocationTag::kind(), bytes};
    use.allocate(AllocationTag::kind(), bytes);
    return block;
  }
  void deallocate(void* block) noexcept override {
    const auto [kind, bytes] = blocks_[block];
    use.deallocate(kind, bytes);
    blocks_.erase(block);
    host_memory().deallocate(block);
  }
  MemorySpace& staging() override { return *this; }
  MemoryUse use;

 private:
  std::map<void*, std::pair<MemoryKind, std::size_t>> blocks_;
};

/// One step, a validation and a sample, computed: what the trainer does, with memory that is counted.
BytesByKind run_step(const PlannedRun& run) {
  const RunConfig& config = run.config;
  TaggedHostMemory memory;
  Backend backend = cpu_backend();
  backend.memory = &memory;
  Mesh mesh{make_self_group(), make_self_group()};
  const auto slots = ReductionSlots::make(config.train.batch, config.train.micro_batch, config.numerics.slots, 1);
  Model model(
      run.model, backend, *mesh.tensor,
      {.compute_dtype = config.compute_dtype(), .slots = config.numerics.slots, .recompute = config.recompute()});
  model.parameters().initialize(1);
  model.parameters().enable_gradients();
  StepUpdate update(config.optim, model.parameters(), backend, mesh, slots, config.parallel.offload);
  model.update_compute_copy();
  Batch batch;
  synthetic_batch(config.train.micro_batch, config.train.sequence, batch);
  for (int i = 0; i < slots.micro_batches; ++i) {
    model.forward(batch, 1e-3f, update.loss_sum(i));
    model.backward();
    if ((i + 1) % slots.micro_batches_per_slot() == 0) update.finish_slot();
  }
  update.check_finite();
  update.reduce_gradients();
  update.apply(0, 1e-3);
  EXPECT_GT(update.report().grad_norm, 0);
  if (config.reporting.validate_every > 0) model.loss(batch, update.loss_sum(0));
  if (config.reporting.sample_every > 0) {
    InferenceState state = model.make_state(1, config.reporting.sample_tokens + 1);
    const AllocationTag tag(MemoryKind::kLogits, "the logits");
    Buffer<float> logits(kVocabulary, memory);
    model.infer(std::vector<int>{0}, state, logits.matrix(1, kVocabulary), /*last_only=*/true);
  }
  return memory.use.at_peak();
}

TEST(MemoryPlanTest, AStepThatIsComputedAllocatesWhatTheDryRunCounted) {
  struct Case {
    const char *optimizer, *compute, *recompute;
  };
  for (const Case& test_case :
       {Case{"AdamW", "f32", "none"}, Case{"Muon", "f32", "norms"}, Case{"Muon", "bf16", "blocks"}}) {
    const PlannedRun run = make_run([&](RunConfig& c) {
      c.optim.name = test_case.optimizer, c.numerics.compute = test_case.compute,
      c.train.recompute = test_case.recompute;
      c.model.shape.layers = 2, c.train.sequence = 24;
      c.reporting.sample_every = c.reporting.validate_every = 2, c.reporting.sample_tokens = 20;
    });
    const BytesByKind actual = run_step(run), predicted = dry_run(run.config, run.model, 1).memory;
    for (std::size_t kind = 0; kind < kMemoryKinds; ++kind)
      EXPECT_EQ(actual.bytes[kind], predicted.bytes[kind])
          << "kind " << kind << ", " << test_case.optimizer << ", " << test_case.compute;
    EXPECT_EQ(run.planned().total(), actual.total());
  }
}

TEST(MemoryPlanTest, KindsAreThoseOfTheShapes) {
  for (const bool on_host : {true, false})
    for (const int ranks : {1, 4}) {
      PlannedRun run = make_run([](RunConfig& c) { c.train.batch = 16; });
      run.config.on_host = on_host;
      const ModelSpec& m = run.model;
      const std::uint64_t rows = 128, D = static_cast<std::uint64_t>(m.width), L = static_cast<std::uint64_t>(m.layers),
                          Q = static_cast<std::uint64_t>(m.heads * m.head_width),
                          H = static_cast<std::uint64_t>(m.heads),
                          KV = static_cast<std::uint64_t>(m.kv_heads * m.head_width),
                          F = static_cast<std::uint64_t>(m.ffn);
      const MemoryPlan plan = run.planned(ranks);
      const auto R = static_cast<std::uint64_t>(ranks), N = plan.weights / 4;
      const auto expect_near = [&](std::uint64_t actual, std::uint64_t expected, double bound, const char* what) {
        EXPECT_NEAR(static_cast<double>(actual), static_cast<double>(expected), bound * static_cast<double>(expected))
            << what << ", " << ranks << " ranks, " << (on_host ? "host" : "device");
      };
      const auto parameters = static_cast<std::uint64_t>(parameter_count(m, true));
      expect_near(N, parameters, 1e-3, "weights");
      EXPECT_EQ(plan.gradients, 4 * N);
      EXPECT_EQ(plan.slot_partials, 4 * N * (ranks == 1 ? 3 : 1));  // of 8 slots, and of 2
      expect_near(plan.moments, 8 * N / R, 1e-3, "moments");
      expect_near(plan.staging, 12 * N / R, 1e-3, "staging");
      // Elements per row: of what a block saves, of the scratch memory that all share, and around the blocks.
      const std::uint64_t saved = 2 * Q + 2 * KV + 2 * F + H + D, scratch = D + 2 * Q + 2 * KV + 4 * F + D,
                          residual = D + 2 * D + (L + 1) * D;
      expect_near(plan.activations, 4 * rows * (L * saved + scratch + residual), on_host ? 0.01 : 0.03, "activations");
      expect_near(plan.logits, 4 * rows * kVocabulary, 0.01, "logits");
      EXPECT_EQ(plan.compute_copy + plan.orthogonalization, 0U);
      EXPECT_EQ(plan.other > kGemmWorkspaceBytes, !on_host);
    }
}

void expect_close(const MemoryPlan& actual, const DryRun& expected, const char* what) {
  constexpr double kBound = 2e-3;  // the arena's padding, and sums of squares of every slot
  const auto expect = [&](std::uint64_t a, MemoryKind kind) {
    const auto b = static_cast<double>(expected.memory[kind]);
    EXPECT_NEAR(static_cast<double>(a), b, kBound * b + 1) << what << ", kind " << static_cast<int>(kind);
  };
  expect(actual.weights, MemoryKind::kWeights);
  expect(actual.gradients, MemoryKind::kGradients);
  expect(actual.slot_partials, MemoryKind::kSlotPartials);
  expect(actual.moments, MemoryKind::kOptimizerState);
  expect(actual.orthogonalization, MemoryKind::kOrthogonalization);
  expect(actual.activations, MemoryKind::kActivations);
  expect(actual.logits, MemoryKind::kLogits);
  EXPECT_NEAR(static_cast<double>(actual.total()) / static_cast<double>(expected.memory.total()), 1.0, kBound) << what;
}

TEST(MemoryPlanTest, WhatIsTooLargeForADryRunLiesOnTheLineOfSmallerOnes) {
  const std::pair<const char*, PlannedRun> kLarge[] = {
      {"tokens", make_run([](RunConfig& c) { c.train.micro_batch = 8, c.train.sequence = 5000; })},
      {"layers", make_run([](RunConfig& c) { c.model.shape.layers = 333; })},
      {"slots", make_run([](RunConfig& c) { c.numerics.slots = c.train.batch = 4096, c.train.micro_batch = 1; })},
      {"all", make_run([](RunConfig& c) {
         c.model.shape.layers = 300, c.train.sequence = 20000, c.numerics.slots = 2048, c.train.batch = 4096;
       })}};
  for (const auto& [what, run] : kLarge) expect_close(run.planned(), dry_run(run.config, run.model, 1), what);

  PlannedRun tensor_parallel = kLarge[0].second;
  tensor_parallel.config.parallel.tensor = 2;
  expect_close(tensor_parallel.planned(), dry_run(tensor_parallel.config, tensor_parallel.model, 1),
               "rows on two ranks");
  tensor_parallel.config.train.sequence = 20001, tensor_parallel.config.train.micro_batch = 1;
  expect_close(tensor_parallel.planned(), dry_run(tensor_parallel.config, tensor_parallel.model, 1),
               "rows that do not divide");
}

TEST(MemoryPlanTest, NoKeysMakeAPlanSlow) {
  const double begin_s = now_s();
  const PlannedRun endless = make_run([](RunConfig& c) {
    c.model.shape.layers = 10'000, c.train.sequence = 2147483647, c.train.steps = 1, c.train.micro_batch = 1;
    c.numerics.slots = c.train.batch = 1 << 30;
  });
  const MemoryPlan plan = endless.planned();
  EXPECT_GT(plan.activations, std::uint64_t{1} << 50);
  EXPECT_GE(plan.slot_partials, 29 * plan.gradients);
  EXPECT_LT(endless.planned(1 << 20).moments, plan.moments);
  EXPECT_THROW(dry_run(endless.config, endless.model, 1), Error);  // which would list every slot
  PlannedRun wide_run = make_run([](RunConfig& c) {
    c.model.shape.width = 4'000'000, c.model.shape.heads = 1000, c.model.shape.ffn = 4'000'000;
    c.model.shape.layers = 4, c.train.sequence = 10000;
  });
  wide_run.config.parallel.tensor = 2;
  EXPECT_GT(wide_run.planned(2).weights, std::uint64_t{1} << 49);
  EXPECT_LT(now_s() - begin_s, 30);  // half a second where nothing else runs
}

TEST(MemoryPlanTest, MatricesThatMuonCannotSendAreRefused) {
  const auto muon = [](int width, int layers) {
    return make_run([=](RunConfig& c) {
      c.optim.name = "Muon", c.model.shape.width = width, c.model.shape.heads = 8;
      c.model.shape.ffn = 4 * width, c.model.shape.layers = layers;
    });
  };
  EXPECT_GT(muon(40'000, 2).planned().total(), 0U);  // alone, a rank sends nothing
  for (const auto& [large, substring] :
       {std::pair(muon(40'000, 2), "sends at most 2147483647"), {muon(20'000, 256), "from rank to rank have"}})
    try {
      large.planned(/*data_parallel_size=*/2);
      ADD_FAILURE() << "a plan would count for minutes, or never end";
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::kConfig);
      EXPECT_NE(std::string(error.what()).find(substring), std::string::npos) << error.what();
    }
}

TEST(MemoryPlanTest, RanksThatAreThreadsPlanOneAfterTheOther) {
  const PlannedRun run = make_run([](RunConfig& c) { c.optim.name = "Muon"; });
  const std::uint64_t expected = run.planned().total();
  std::vector<std::uint64_t> actual(8);
  std::vector<std::jthread> threads;
  for (std::uint64_t& total : actual) threads.emplace_back([&] { total = run.planned().total(); });
  threads.clear();
  for (const std::uint64_t total : actual) EXPECT_EQ(total, expected);
}

TEST(MemoryUseTest, ThePeakIsOneMomentAndTheInnermostTagCounts) {
  EXPECT_EQ(AllocationTag::kind(), MemoryKind::kOther);
  const AllocationTag outer(MemoryKind::kActivations, "the activations of", 7, "tokens");
  {
    const AllocationTag inner(MemoryKind::kGradients, "the gradients");
    EXPECT_EQ(AllocationTag::kind(), MemoryKind::kGradients);
    EXPECT_EQ(AllocationTag::current(), "the gradients");
  }
  EXPECT_EQ(AllocationTag::kind(), MemoryKind::kActivations);
  EXPECT_EQ(AllocationTag::current(), "the activations of 7 tokens");

  MemoryUse use;
  use.allocate(MemoryKind::kLogits, 100);
  use.deallocate(MemoryKind::kLogits, 100);
  use.allocate(MemoryKind::kBatch, 80);  // most of each at once would be 180
  EXPECT_EQ(use.at_peak().total(), 100U);
  use.allocate(MemoryKind::kWeights, 30);
  EXPECT_EQ(use.at_peak()[MemoryKind::kBatch], 80U);
  EXPECT_EQ(use.at_peak()[MemoryKind::kLogits], 0U);
  use.deallocate(MemoryKind::kWeights, 30);
  use.reset_peak();
  EXPECT_EQ(use.at_peak().total(), 80U);
}

}  // namespace
}  // namespace slipway
