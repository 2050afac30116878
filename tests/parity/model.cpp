// The whole model against an f64 reference made by tools/oracle/model_reference.py: losses and every gradient.
#include <gtest/gtest.h>

#include <cmath>

#include "comm/world.hpp"
#include "io/safetensors.hpp"
#include "src/model/model.hpp"

#ifndef SLIPWAY_TEST_DATA
#error "the build names the folder of test data"
#endif

namespace slipway {
namespace {

constexpr int kB = 2, kT = 11;

ModelDescription description(const std::string& family) {
  const bool llama = family == "llama";
  return {.architecture = family,
          .layers = 2,
          .width = 16,
          .heads = 4,
          .kv_heads = 2,
          .head_width = 4,
          .ffn = 24,
          .vocabulary = 37,
          .context = 64,
          .rope_base = llama ? 1e4 : 1e6,
          .norm_eps = llama ? 1e-5 : 1e-6,
          .tied = family != "qwen2",
          .qkv_bias = family == "qwen2",
          .qk_norm = family == "qwen3",
          .name = "tiny"};
}

/// The reference file of one family; its weights are a source under the model's names.
class Reference : public TensorSource {
 public:
  explicit Reference(const std::string& family) : file_(join(SLIPWAY_TEST_DATA, "/model_", family, ".safetensors")) {}

  std::vector<float> numbers(const std::string& name) const {
    const SafeTensor& tensor = file_.at(name);
    std::vector<float> values(static_cast<std::size_t>(tensor.tensor.size()));
    file_.read(tensor, values);
    return values;
  }
  std::vector<NamedTensor> tensors() const override {
    std::vector<NamedTensor> result;
    for (const SafeTensor& t : file_.tensors())
      if (t.tensor.name.starts_with("weights/")) result.push_back({t.tensor.name.substr(8), t.tensor.shape});
    return result;
  }
  void read(const std::string& name, std::span<float> out) const override {
    file_.read(file_.at("weights/" + name), out);
  }

  Batch batch() const {
    const auto ints = [&](const char* name) {
      const std::vector<float> values = numbers(name);
      return std::vector<int>(values.begin(), values.end());
    };
    return {.sequences = kB,
            .tokens = kT,
            .ids = ints("batch/ids"),
            .targets = ints("batch/targets"),
            .weights = numbers("batch/loss_weights"),
            .positions = ints("batch/positions"),
            .first_key = ints("batch/first_key")};
  }

 private:
  SafetensorsFile file_;
};

/// Root of the mean squared difference, relative to the root of the mean square of `want`.
double relative_error(std::span<const float> got, std::span<const float> want) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    difference += std::pow(static_cast<double>(got[i]) - want[i], 2);
    size += std::pow(static_cast<double>(want[i]), 2);
  }
  return std::sqrt(difference / size);
}

/// This rank's part of a whole tensor.
std::vector<float> part_of(const Parameter& p, const std::vector<float>& whole) {
  std::vector<float> part(p.local_size(), 0.0f);
  const int row0 = p.shard == ShardAxis::kRows ? p.first : 0, col0 = p.shard == ShardAxis::kCols ? p.first : 0;
  for (int r = 0; r < p.unpadded_rows(); ++r)
    for (int c = 0; c < p.unpadded_cols(); ++c)
      part[static_cast<std::size_t>(r * p.local_cols + c)] =
          whole[static_cast<std::size_t>((row0 + r) * p.cols + col0 + c)];
  return part;
}

struct Case {
  std::string family;
  int tensor_ranks;
  Recompute recompute;
  const KernelTable* kernels;
  DType compute = DType::kF32;
};

/// Runs one case on this tensor rank and compares everything with the reference.
void compare(const Case& c, Group& tensor) {
  // In f32 two layers of rounding on losses of about 5 nats, and per tensor, relatively, sums over 22 rows; in bf16
  // some ten roundings of 2^-9 on average between a loss and a gradient.
  const bool f32 = c.compute == DType::kF32;
  const double kNats = f32 ? 3e-5 : 0.03, kGradient = f32 ? 2e-5 : 0.05;
  const Reference reference(c.family);
  Model model(description(c.family), *c.kernels, tensor, {.compute = c.compute, .slots = 2, .recompute = c.recompute});
  model.parameters().load(reference);
  model.refresh();
  model.parameters().enable_gradients();
  const Batch batch = reference.batch();
  double loss = 0, loss_alone = 0;
  model.forward(batch, 1.0f, &loss);
  model.backward();

  const std::vector<float> nats = reference.numbers("batch/nats");
  double want = 0;
  for (std::size_t r = 0; r < nats.size(); ++r) {
    want += static_cast<double>(batch.weights[r]) * nats[r];
    if (batch.weights[r] != 0) {
      ASSERT_NEAR(model.row_nats()[r], nats[r], kNats) << c.family << " row " << r;
    }
  }
  EXPECT_NEAR(loss, want, kNats * static_cast<double>(nats.size()));
  for (std::size_t i = 0; i < model.parameters().all().size(); ++i) {
    const Parameter& p = model.parameters().all()[i];
    std::vector<float> got(p.local_size());
    std::copy_n(model.parameters().gradients().data() + p.offset, got.size(), got.begin());
    if (p.shard == ShardAxis::kReplicated) tensor.all_reduce_sum(std::span<float>(got));
    EXPECT_LT(relative_error(got, part_of(p, reference.numbers("gradient/" + p.name))), kGradient)
        << c.family << ", tensor ranks " << c.tensor_ranks << ", " << p.name;
  }
  // Rounded exponentials are summed in the order of other vectors when they are also kept.
  model.loss(batch, &loss_alone);
  EXPECT_NEAR(loss_alone, loss, f32 ? 1e-9 : 1e-5) << "the loss without gradients is the same number";
}

class ModelTest : public testing::TestWithParam<std::string> {};

TEST_P(ModelTest, LossAndEveryGradientEqualTheDoublePrecisionReference) {
  for (const KernelTable* kernels : all_tables())
    for (const Recompute recompute : {Recompute::kNone, Recompute::kNorms, Recompute::kBlocks})
      compare({GetParam(), 1, recompute, kernels}, *make_self_group());
}

TEST_P(ModelTest, FollowsTheReferenceInBf16) {
  for (const KernelTable* kernels : all_tables())
    compare({GetParam(), 1, Recompute::kNorms, kernels, DType::kBf16}, *make_self_group());
}

// Long enough for several tiles of queries, keys, and rows of the head; with documents.
TEST(ModelInBf16, FollowsF32OverManyTiles) {
  constexpr int kRows = 700, kDocument = 330;
  ModelDescription model = description("llama");
  model.width = 128, model.heads = 4, model.head_width = 32, model.ffn = 192, model.vocabulary = 1500;
  const std::unique_ptr<Group> self = make_self_group();
  Batch batch{.sequences = 1, .tokens = kRows};
  for (int t = 0; t < kRows; ++t) {
    batch.ids.push_back(t * 7919 % model.vocabulary);
    batch.targets.push_back((t + 1) * 7919 % model.vocabulary);
    batch.weights.push_back(t % 5 == 0 ? 0.0f : 1.0f);
    batch.positions.push_back(t % kDocument);
    batch.first_key.push_back(t / kDocument * kDocument);
  }
  const auto train = [&](DType compute) {
    Model one(model, cpu_kernels(), *self, {.compute = compute});
    one.parameters().initialize(3);
    one.refresh();
    one.parameters().enable_gradients();
    double loss = 0;
    one.forward(batch, 1.0f / kRows, &loss);
    one.backward();
    const std::span<const float> gradients = one.parameters().gradients();
    return std::pair(loss, std::vector<float>(gradients.begin(), gradients.end()));
  };
  const auto [f32_loss, f32] = train(DType::kF32);
  const auto [bf16_loss, bf16] = train(DType::kBf16);
  EXPECT_NEAR(bf16_loss, f32_loss, 1e-3 * f32_loss);
  const Model layout(model, cpu_kernels(), *self, {});
  for (const Parameter& p : layout.parameters().all()) {
    const auto part = [&](const std::vector<float>& all) { return std::span(all).subspan(p.offset, p.local_size()); };
    EXPECT_LT(relative_error(part(bf16), part(f32)), 0.02) << p.name;
  }
}

TEST_P(ModelTest, TensorRanksTellTheSameStoryAlsoWhereNothingDivides) {
  for (const int ranks : {2, 3, 4})  // 37 ids, 24 channels, 4 heads on 3 ranks; 2 key-value heads on 4
    for (const Recompute recompute : {Recompute::kNone, Recompute::kNorms, Recompute::kBlocks})
      run_thread_group(ranks, [&](Group& tensor) {
        compare({GetParam(), ranks, recompute, all_tables().front()}, tensor);
      });
}

TEST_P(ModelTest, InitializationIsTheSameOnAnyLayout) {
  const ModelDescription tiny = description(GetParam());
  const std::unique_ptr<Group> self = make_self_group();
  Model whole(tiny, *all_tables().front(), *self, {});
  whole.parameters().initialize(7);
  run_thread_group(3, [&](Group& tensor) {
    Model part(tiny, *all_tables().front(), tensor, {});
    part.parameters().initialize(7);
    for (const Parameter& p : part.parameters().all()) {
      const Parameters::Handle handle = whole.parameters().find(p.name);
      const Matrix<float> all = whole.parameters().value(handle);
      const std::vector<float> want = part_of(p, {all.data, all.data + all.size()});
      EXPECT_TRUE(std::equal(want.begin(), want.end(),
                             part.parameters().values().begin() + static_cast<std::ptrdiff_t>(p.offset)))
          << p.name;
    }
  });
}

TEST(ModelTest, ATensorRankWithoutAQueryHeadIsRefusedWithBothKeys) {
  ModelDescription two_heads = description("llama");
  two_heads.heads = 2, two_heads.kv_heads = 2, two_heads.head_width = 8;
  try {
    TensorParallelShard::of(two_heads, 0, 4);
    FAIL() << "4 tensor ranks cannot share 2 heads";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    EXPECT_NE(std::string(error.what()).find("mesh.tensor is 4"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("2 query heads"), std::string::npos) << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ModelTest, testing::Values("llama", "qwen2", "qwen3"),
                         [](const auto& each) { return each.param; });

}  // namespace
}  // namespace slipway
