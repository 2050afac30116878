// A step that is only counted: its operations follow the formulas, its messages the layout.
#include "src/plan/dry_run.hpp"

#include <gtest/gtest.h>

#include "kernels/backend/device.hpp"
#include "src/core/memory.hpp"
#include "src/model/model_tensors.hpp"
#include "src/plan/roofline.hpp"

namespace slipway {
namespace {

RunConfig make_config(const std::string& preset, const std::string& compute, int batch, int micro_batch, int sequence) {
  RunConfig config;
  config.model.preset = preset;
  config.numerics.compute = compute;
  config.train.batch = batch, config.train.micro_batch = micro_batch, config.train.sequence = sequence;
  config.resolve(/*sequences_per_epoch=*/1000);
  config.on_host = false;
  return config;
}

double matmul_flops(const Counts& counts) {
  double sum = 0;
  for (const auto& [key, row] : counts.rows)
    if (key.first.starts_with("matmul")) sum += row.cost.flops;
  return sum;
}

const Counts::Row& op_row(const Counts& counts, const std::string& op, DType type) {
  return counts.rows.at({op, type});
}

TEST(DryRun, CountsWhatTheFormulasSay) {
  for (const std::string compute : {"f32", "bf16"}) {
    const RunConfig config = make_config("llama-8m", compute, 8, 2, 128);
    const ModelSpec model = config.model.spec(4096);
    const DryRun run = dry_run(config, model, 1);
    EXPECT_EQ(run.micro_batches, 4);
    EXPECT_NEAR(matmul_flops(run.micro_batch) / training_flops(model, 2 * 128), 1.0, 1e-9) << compute;
    const DType type = config.compute_dtype();
    const double pairs = 2.0 * 128 * 129 / 2 * model.heads * model.layers;  // of a query and a key that it sees
    EXPECT_NEAR(op_row(run.micro_batch, "attention", type).cost.flops, 4 * pairs * model.head_width, 1);
    EXPECT_NEAR(op_row(run.micro_batch, "attention_grad", type).cost.flops, 10 * pairs * model.head_width, 1);
    EXPECT_EQ(op_row(run.micro_batch, "attention", type).calls, model.layers);
    EXPECT_EQ(op_row(run.update, "sum_squares", DType::kF32).calls, 2 * 8);  // of each slot, shared and divided
    EXPECT_EQ(run.micro_batch.rows.count({"adamw", DType::kF32}), 0u);
  }
}

TEST(DryRun, RecomputationRunsBlocksAgain) {
  RunConfig config = make_config("llama-8m", "bf16", 8, 2, 128);
  const ModelSpec model = config.model.spec(4096);
  const DryRun plain = dry_run(config, model, 1);
  config.train.recompute = "blocks";
  const DryRun recomputed = dry_run(config, model, 1);
  EXPECT_EQ(op_row(recomputed.micro_batch, "attention", DType::kBf16).calls, 2 * model.layers - 1);
  EXPECT_LT(recomputed.peak_bytes, plain.peak_bytes);
  EXPECT_EQ(dry_run(config, model, 1).peak_bytes, recomputed.peak_bytes) << "a run before it leaves nothing behind";
}

TEST(DryRun, AHostHasOtherTilesAndNoWorkspace) {
  RunConfig config = make_config("llama-1m", "bf16", 16, 8, 256);
  const ModelSpec model = config.model.spec(8192);
  const DryRun device = dry_run(config, model, 1);
  config.on_host = true;
  const DryRun host = dry_run(config, model, 1);
  EXPECT_GT(device.memory[MemoryKind::kWorkspace], kGemmWorkspaceBytes);
  EXPECT_GT(device.memory[MemoryKind::kBatch], host.memory[MemoryKind::kBatch]);  // which a host reads where it is
  EXPECT_EQ(host.memory[MemoryKind::kWorkspace], 0U);
  EXPECT_GT(device.memory[MemoryKind::kLogits], 2 * host.memory[MemoryKind::kLogits]);
  EXPECT_EQ(device.memory[MemoryKind::kWeights], host.memory[MemoryKind::kWeights]);
  EXPECT_GE(device.peak_bytes, device.memory.total());
  EXPECT_EQ(host.peak_bytes, host.memory.total());
  config.on_host = false, config.parallel.offload = true;
  const DryRun offloaded = dry_run(config, model, 1);
  EXPECT_EQ(offloaded.memory[MemoryKind::kOptimizerState], 0U);
  EXPECT_EQ(offloaded.staging[MemoryKind::kOptimizerState], device.memory[MemoryKind::kOptimizerState]);
}

TEST(DryRun, DataRanksSendGradientsAndWeightsOnce) {
  const RunConfig config = make_config("llama-30m", "bf16", 16, 2, 256);
  const ModelSpec model = config.model.spec(8192);
  const DryRun run = dry_run(config, model, 4);
  const auto parameters = static_cast<double>(parameter_count(model, true)),
             f32_count = 8192.0 * model.width;  // the embedding; vectors are few
  EXPECT_NEAR(run.update_data.bytes / (4 * parameters * 3 / 4 + 2 * parameters * 3 / 4 + 4 * f32_count), 1.0, 0.01);
  EXPECT_EQ(run.micro_batch_tensor.bytes, 0);
  EXPECT_EQ(dry_run(config, model, 1).update_data.bytes, 0);
}

/// Of rows x width, with T ranks each message leaves or brings (T - 1) / T.
TEST(DryRun, TensorRanksSendRowsFourTimesALayer) {
  RunConfig config = make_config("llama-30m", "bf16", 16, 2, 256);
  config.parallel.tensor = 2;
  const ModelSpec model = config.model.spec(8192);
  const double half = 2 * 256 * model.width / 2.0, L = model.layers;
  const DryRun two_ranks = dry_run(config, model, 2);
  // In f32 sums of the embedding, of the head and of each layer, two in each direction, and the embedding's gradient;
  // in bf16 gathers of the head and of each layer: two forward, two backward, and two of norms that are recomputed.
  EXPECT_NEAR(two_ranks.micro_batch_tensor_parallel_bytes() / (half * (4 * (2 + 4 * L) + 2 * (1 + 6 * L) + 4)), 1.0,
              0.01);
  double overlapped_bytes = 0;
  for (const OverlappedComm& overlapped : two_ranks.micro_batch_overlapped)
    if (!overlapped.ops.rows.empty()) overlapped_bytes += overlapped.messages.bytes;
  // Of a block's: half of four gathers and of two sums, and two gathers and two sums whole.
  EXPECT_NEAR(overlapped_bytes / (half * L * (2 * 4 / 2.0 + 4 * 2 / 2.0 + 2 * 2 + 4 * 2)), 1.0, 0.02);

  config.train.recompute = "none";
  EXPECT_NEAR(
      dry_run(config, model, 2).micro_batch_tensor_parallel_bytes() / (half * (4 * (2 + 4 * L) + 2 * (1 + 4 * L) + 4)),
      1.0, 0.01);

  config.train.sequence = 255, config.train.micro_batch = 1;  // rows that do not divide: all-reduces
  config.train.recompute = "blocks";
  EXPECT_NEAR(dry_run(config, model, 2).micro_batch_tensor_parallel_bytes() /
                  (2 * 4 * 255 * model.width / 2.0 * (2 + 4 * L + 2 * (L - 1))),
              1.0, 0.01);
}

TEST(DryRun, TakesNoMemoryForAModelOfBillions) {
  RunConfig config = make_config("llama-7b", "bf16", 64, 1, 4096);
  config.parallel.tensor = 2;
  const std::uint64_t before = resident_bytes();
  const DryRun run = dry_run(config, config.model.spec(32000), 8);
  EXPECT_GT(run.peak_bytes, std::uint64_t{30} << 30);
  EXPECT_LT(resident_bytes(), before + (std::uint64_t{256} << 20));
}

TEST(Roofline, ExpectsNothingFasterThanItsFloor) {
  const RunConfig config = make_config("llama-124m", "bf16", 32, 4, 1024);
  const ModelSpec model = config.model.spec(50304);
  for (const GpuSpec& gpu : gpu_specs()) {
    const Roofline one_gpu = roofline(config, model, 1, gpu), eight_gpus = roofline(config, model, 8, gpu);
    for (const RooflineRow& row : eight_gpus.rows) EXPECT_GT(row.expected_s, row.floor_s) << gpu.name << ", " << row.op;
    EXPECT_GT(one_gpu.mfu, 0.05);
    EXPECT_LT(one_gpu.mfu, 0.72);
    EXPECT_GT(eight_gpus.tokens_per_s, one_gpu.tokens_per_s);
    EXPECT_LT(eight_gpus.mfu, one_gpu.mfu) << "messages cost something";
  }
  EXPECT_THROW(gpu_spec("h1000"), Error);
}

}  // namespace
}  // namespace slipway
