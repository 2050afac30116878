// The whole model against an f64 reference made by tools/oracle/model_reference.py: losses and every gradient.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "io/model/safetensors.hpp"
#include "kernels/backend/cpu_backend.hpp"
#include "src/model/model.hpp"
#include "tests/support/parameter_shard.hpp"
#include "tests/support/random_model.hpp"

#ifndef SLIPWAY_TEST_DATA
#error "the build names the folder of test data"
#endif

namespace slipway {
namespace {

using test::local_shard, test::relative_error;

constexpr int kB = 2, kT = 11;

/// The models of tools/oracle/model_reference.py: one of each family, and llamas of other shapes.
ModelSpec spec(const std::string& name) {
  ModelSpec model{.architecture = "llama",
                  .layers = 2,
                  .width = 16,
                  .heads = 4,
                  .kv_heads = 2,
                  .head_width = 4,
                  .ffn = 24,
                  .vocabulary = 37,
                  .context = 64,
                  .tied = true,
                  .name = "tiny"};
  if (name == "qwen2" || name == "qwen3") {
    model.architecture = name, model.rope_base = 1e6, model.norm_eps = 1e-6;
    model.tied = name == "qwen3", model.qkv_bias = name == "qwen2", model.qk_norm = name == "qwen3";
  } else if (name == "gpt2") {
    model.architecture = name, model.blocks = "attention+gelu", model.kv_heads = 4, model.context = 13;
    model.qkv_bias = model.output_bias = model.ffn_bias = model.layer_norm = model.learned_positions = true;
  } else if (name == "llama3") {
    model.head_width = 6, model.tied = false, model.qkv_bias = model.output_bias = true, model.rope_base = 100;
    model.rope_scaling = "llama3", model.rope_factor = 8, model.rope_original_context = 60;
  } else if (name == "mixed") {
    model.blocks = "attention+swiglu,attention+gelu", model.tied = false;
  }
  return model;
}

/// The reference file of one model; its weights are a source under the model's names.
class Reference : public TensorSource {
 public:
  explicit Reference(const std::string& name) : file_(join(SLIPWAY_TEST_DATA, "/model_", name, ".safetensors")) {}

  std::vector<float> read_values(const std::string& name) const {
    const SafeTensor& tensor = file_.at(name);
    std::vector<float> values(static_cast<std::size_t>(tensor.tensor.size()));
    file_.read(tensor, values);
    return values;
  }
  std::vector<TensorInfo> tensors() const override {
    std::vector<TensorInfo> result;
    for (const SafeTensor& t : file_.tensors())
      if (t.tensor.name.starts_with("weights/")) result.push_back({t.tensor.name.substr(8), t.tensor.shape});
    return result;
  }
  void read(const std::string& name, std::span<float> out) const override {
    file_.read(file_.at("weights/" + name), out);
  }

  Batch batch() const {
    const auto ints = [&](const char* name) {
      const std::vector<float> values = read_values(name);
      return std::vector<int>(values.begin(), values.end());
    };
    return {.sequences = kB,
            .tokens_per_sequence = kT,
            .ids = ints("batch/ids"),
            .targets = ints("batch/targets"),
            .weights = read_values("batch/loss_weights"),
            .positions = ints("batch/positions"),
            .key_start = ints("batch/first_key")};
  }

 private:
  SafetensorsFile file_;
};

/// The gradient that an error in the gradient of `name` is held against. Without RoPE a bias of the keys adds the same
/// to all scores of a query, so that its gradient is zero: then it is that of the queries' bias.
std::string scale_reference(const ModelSpec& model, std::string name) {
  constexpr std::string_view kKeys = "attn_k.bias";
  if (model.learned_positions && name.ends_with(kKeys))
    name.replace(name.size() - kKeys.size(), kKeys.size(), "attn_q.bias");
  return name;
}

struct Case {
  std::string name;
  int tensor_parallel_size;
  Recompute recompute;
  const Backend* backend;
  DType compute_dtype = DType::kF32;
  std::function<bool(const Parameter&)> frozen = nullptr;
};

/// Runs one case on this tensor rank and compares everything with the reference.
void compare(const Case& c, Group& tensor) {
  // In f32 two layers of rounding on losses of about 5 nats, and per tensor, relatively, sums over 22 rows; in bf16
  // some ten roundings of 2^-9 on average between a loss and a gradient. A single row can be sensitive: random changes
  // of the weights by 2^-9 move rows of the reference by 0.03 nats.
  const bool is_f32 = c.compute_dtype == DType::kF32;
  const double kLossTolerance = is_f32 ? 3e-5 : 0.03,
               kTokenLossTolerance = is_f32 ? kLossTolerance : 3 * kLossTolerance,
               kGradientTolerance = is_f32 ? 2e-5 : 0.05;
  const Reference reference(c.name);
  Model model(spec(c.name), *c.backend, tensor,
              {.compute_dtype = c.compute_dtype, .slots = 2, .recompute = c.recompute, .frozen = c.frozen});
  model.parameters().load(reference);
  model.update_compute_copy();
  model.parameters().enable_gradients();
  const Batch batch = reference.batch();
  double loss = 0, forward_only_loss = 0;
  model.forward(batch, 1.0f, &loss);
  model.backward();

  const std::vector<float> expected_losses = reference.read_values("batch/nats");
  double expected = 0;
  for (std::size_t r = 0; r < expected_losses.size(); ++r) {
    expected += static_cast<double>(batch.weights[r]) * expected_losses[r];
    if (batch.weights[r] != 0) {
      ASSERT_NEAR(model.token_losses()[r], expected_losses[r], kTokenLossTolerance) << c.name << " row " << r;
    }
  }
  EXPECT_NEAR(loss, expected, kLossTolerance * static_cast<double>(expected_losses.size()));
  for (std::size_t i = 0; i < model.parameters().all().size(); ++i) {
    const Parameter& p = model.parameters().all()[i];
    if (!p.trainable) continue;
    std::vector<float> actual(p.local_size());
    std::copy_n(model.parameters().gradients().data() + p.offset, actual.size(), actual.begin());
    if (p.shard == ShardAxis::kReplicated) tensor.all_reduce_sum(std::span<float>(actual));
    const auto gradient_of = [&](const std::string& name) {
      return local_shard(p, reference.read_values("gradient/" + name));
    };
    EXPECT_LT(relative_error(actual, gradient_of(p.name), gradient_of(scale_reference(model.spec(), p.name))),
              kGradientTolerance)
        << c.name << ", tensor ranks " << c.tensor_parallel_size << ", " << p.name;
  }
  // Rounded exponentials are summed in another vector order when they are also saved.
  model.loss(batch, &forward_only_loss);
  EXPECT_NEAR(forward_only_loss, loss, is_f32 ? 1e-9 : 1e-5) << "the loss without gradients is the same number";
}

class ModelTest : public testing::TestWithParam<std::string> {};

TEST_P(ModelTest, LossAndEveryGradientEqualTheDoublePrecisionReference) {
  for (const Backend* backend : all_backends())
    for (const Recompute recompute : {Recompute::kNone, Recompute::kNorms, Recompute::kBlocks})
      compare({GetParam(), 1, recompute, backend}, *make_self_group());
}

TEST_P(ModelTest, FollowsTheReferenceInBf16) {
  for (const Backend* backend : all_backends())
    compare({GetParam(), 1, Recompute::kNorms, backend, DType::kBf16}, *make_self_group());
}

// Long enough for several tiles of queries, keys, and rows of the head; with documents.
TEST(ModelInBf16, FollowsF32OverManyTiles) {
  constexpr int kRows = 700, kDocument = 330;
  ModelSpec model = spec("llama");
  model.width = 128, model.heads = 4, model.head_width = 32, model.ffn = 192, model.vocabulary = 1500;
  const std::unique_ptr<Group> self = make_self_group();
  Batch batch{.sequences = 1, .tokens_per_sequence = kRows};
  for (int t = 0; t < kRows; ++t) {
    batch.ids.push_back(t * 7919 % model.vocabulary);
    batch.targets.push_back((t + 1) * 7919 % model.vocabulary);
    batch.weights.push_back(t % 5 == 0 ? 0.0f : 1.0f);
    batch.positions.push_back(t % kDocument);
    batch.key_start.push_back(t / kDocument * kDocument);
  }
  const auto train = [&](DType compute_dtype) {
    Model one(model, cpu_backend(), *self, {.compute_dtype = compute_dtype});
    one.parameters().initialize(3);
    one.update_compute_copy();
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
  const Model layout(model, cpu_backend(), *self, {});
  for (const Parameter& p : layout.parameters().all()) {
    const auto part = [&](const std::vector<float>& all) { return std::span(all).subspan(p.offset, p.local_size()); };
    EXPECT_LT(relative_error(part(bf16), part(f32)), 0.02) << p.name;
  }
}

TEST_P(ModelTest, TensorRanksTellTheSameStoryAlsoWhereNothingDivides) {
  for (const int ranks : {2, 3, 4})  // 37 ids, 24 channels, 4 heads on 3 ranks; 2 key-value heads on 4
    for (const Recompute recompute : {Recompute::kNone, Recompute::kNorms, Recompute::kBlocks})
      run_thread_group(ranks, [&](Group& tensor) {
        compare({GetParam(), ranks, recompute, all_backends().front()}, tensor);
      });
}

TEST_P(ModelTest, FrozenParametersHaveNoGradientAndChangeNoOther) {
  using Choice = std::function<bool(const Parameter&)>;
  const std::vector<Choice> choices = {
      [](const Parameter& p) { return p.vector; },
      [](const Parameter& p) { return !p.vector; },
      [](const Parameter& p) { return p.component == "embedding"; },
      [](const Parameter& p) { return p.name.find("attn_k") != std::string::npos; },  // between q and v in one matmul
      [](const Parameter& p) { return p.name != "blk.1.ffn_up.weight"; },
  };
  for (const Choice& frozen : choices) {
    for (const int ranks : {1, 2})
      run_thread_group(ranks, [&](Group& tensor) {
        compare({.name = GetParam(),
                 .tensor_parallel_size = ranks,
                 .recompute = Recompute::kNorms,
                 .backend = all_backends().front(),
                 .frozen = frozen},
                tensor);
      });
    const std::unique_ptr<Group> self = make_self_group();
    Model model(spec(GetParam()), cpu_backend(), *self, {.frozen = frozen});
    model.parameters().enable_gradients();
    std::size_t trained = 0;
    for (const Parameter& p : model.parameters().all())
      if (!frozen(p)) trained += Parameters::padded_size(p.local_size());
    EXPECT_EQ(model.parameters().gradients().size(), trained);
  }
}

/// Loss and gradients of two passes, the second with the buffers of the first.
std::pair<double, std::vector<float>> two_passes(const ModelSpec& model, const TensorSource& weights,
                                                 const Batch& batch, DType compute_dtype, Recompute recompute) {
  const std::unique_ptr<Group> self = make_self_group();
  Model one(model, cpu_backend(), *self, {.compute_dtype = compute_dtype, .recompute = recompute});
  one.parameters().load(weights);
  one.update_compute_copy();
  one.parameters().enable_gradients();
  double loss = 0;
  for (int pass = 0; pass < 2; ++pass) {
    one.forward(batch, 1.0f, &loss);
    one.backward();
  }
  const std::span<const float> gradients = one.parameters().gradients();
  return {loss, {gradients.begin(), gradients.end()}};
}

void expect_recomputed_bits(const ModelSpec& model, const TensorSource& weights, const Batch& batch) {
  for (const DType compute_dtype : {DType::kF32, DType::kBf16}) {
    const auto saved = two_passes(model, weights, batch, compute_dtype, Recompute::kNone);
    EXPECT_TRUE(std::ranges::all_of(saved.second, [](float d) { return std::isfinite(d); }));
    EXPECT_EQ(two_passes(model, weights, batch, compute_dtype, Recompute::kNorms), saved);
    EXPECT_EQ(two_passes(model, weights, batch, compute_dtype, Recompute::kBlocks), saved);
  }
}

TEST_P(ModelTest, RecomputedActivationsGiveTheSameBits) {
  const Reference reference(GetParam());
  expect_recomputed_bits(spec(GetParam()), reference, reference.batch());
}

// The smaller kind comes first: its saved activations need less memory than the larger one's.
TEST(ModelTest, BlocksOfTwoKindsShareActivationsByKind) {
  ModelSpec model = spec("mixed");
  model.layers = 5, model.blocks = "attention+gelu,attention+swiglu*2";
  expect_recomputed_bits(model, test::RandomWeights(model, /*seed=*/2), Reference("mixed").batch());
}

TEST_P(ModelTest, InitializationIsTheSameOnAnyLayout) {
  const ModelSpec tiny = spec(GetParam());
  const std::unique_ptr<Group> self = make_self_group();
  Model full_model(tiny, *all_backends().front(), *self, {});
  full_model.parameters().initialize(7);
  run_thread_group(3, [&](Group& tensor) {
    Model sharded_model(tiny, *all_backends().front(), tensor, {});
    sharded_model.parameters().initialize(7);
    for (const Parameter& p : sharded_model.parameters().all()) {
      const Parameters::Handle handle = full_model.parameters().find(p.name);
      const Matrix<float> full_values = full_model.parameters().value(handle);
      const std::vector<float> expected = local_shard(p, {full_values.data, full_values.data + full_values.size()});
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(),
                             sharded_model.parameters().values().begin() + static_cast<std::ptrdiff_t>(p.offset)))
          << p.name;
    }
  });
}

TEST(ModelTest, ATensorRankWithoutAQueryHeadIsRefusedWithBothKeys) {
  ModelSpec two_heads = spec("llama");
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

INSTANTIATE_TEST_SUITE_P(Models, ModelTest, testing::Values("llama", "qwen2", "qwen3", "gpt2", "llama3", "mixed"),
                         [](const auto& tested) { return tested.param; });

}  // namespace
}  // namespace slipway
