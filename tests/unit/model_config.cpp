// A model's shape in keys and checkpoints, counts of its parameters; states of layers.
#include <gtest/gtest.h>

#include <algorithm>

#include "io/model/model_family.hpp"
#include "io/model/model_spec_json.hpp"
#include "src/model/layers/attention.hpp"
#include "src/model/model_config.hpp"
#include "src/model/model_tensors.hpp"
#include "tests/support/core_files.hpp"
#include "tests/support/random_model.hpp"

namespace slipway {
namespace {

TEST(ModelConfigTest, EveryFieldIsWrittenAndReadAndCompared) {
  const ModelSpec model = test::tiny_spec("llama", true);
  ModelSpec::fields([&](const SpecField& field, auto member) {
    using Value = std::decay_t<decltype(model.*member)>;
    ModelSpec other = model;
    if constexpr (std::is_same_v<Value, bool>) {
      other.*member = !(model.*member);
    } else if constexpr (std::is_same_v<Value, std::string>) {
      other.*member = model.*member + "x";
    } else {
      other.*member = model.*member + 2;
    }
    EXPECT_NE(other, model) << field.json;
    EXPECT_EQ(to_json(other)[field.json], Json(other.*member)) << "what is not the default is always written";
    const std::string_view json = field.json;
    if (json == "max_position_embeddings" || json == "blocks") return;  // compared by meaning
    EXPECT_NE(describe_difference(model, other), "") << field.json;
  });
  EXPECT_EQ(describe_difference(model, model), "");
  ModelSpec deeper = model;
  deeper.layers = 7;
  EXPECT_EQ(describe_difference(model, deeper), "model.layers is 2 here and 7 there");
}

TEST(ModelConfigTest, ACheckpointOfEarlierVersionsHasNoKeyThatCameLater) {
  ModelSpec model = test::tiny_spec("llama", true);
  model.provenance.clear();
  const Json json = to_json(model);
  for (const char* key : {"blocks", "rope_scaling", "output_bias", "layer_norm", "learned_positions"})
    EXPECT_FALSE(json.contains(key)) << key;
  EXPECT_EQ(spec_from_json(json, "it"), model);
  Json incomplete = json;
  incomplete.erase("rope_theta");
  expect_error(Fault::kStorage, "rope_theta", [&] { spec_from_json(incomplete, "it"); });
}

TEST(ModelConfigTest, KeysOverAPresetAndOnlyThey) {
  ModelConfig config{.preset = "llama-8m"};
  config.shape.head_width = 96;
  config.shape.rope_scaling = "llama3";
  config.switches["model.tied"] = "off";
  config.resolve(512);
  const ModelSpec model = config.spec(1000);
  EXPECT_EQ(model.head_width, 96);
  EXPECT_EQ(model.query_width(), 4 * 96);
  EXPECT_EQ(model.rope_factor, 8);
  EXPECT_FALSE(model.tied);
  EXPECT_EQ(model.layers, 12);
  EXPECT_EQ(model.vocabulary, 1000);

  ModelConfig padded{.preset = "llama-8m"};
  padded.shape.vocabulary = 1024;
  padded.resolve(512);
  EXPECT_EQ(padded.spec(1000).vocabulary, 1024);
  expect_error(Fault::kConfig, "model.embedding_rows", [&] { padded.spec(1025); });

  ModelConfig short_of_positions{.preset = "gpt2-1m"};
  short_of_positions.shape.context = 64;
  expect_error(Fault::kConfig, "learned positions", [&] { short_of_positions.resolve(65); });
}

TEST(ModelConfigTest, CountsFollowFromWhatLayersDeclare) {
  for (const Preset& preset : presets()) {
    if (preset.spec.layers > 12) continue;
    ModelSpec model = preset.spec;
    model.vocabulary = 300, model.context = 64;
    std::int64_t sum = 0;
    for (const TensorInfo& tensor : tensors_of(model)) sum += tensor.size();
    EXPECT_EQ(parameter_count(model, /*with_embeddings=*/true), sum) << model.name;
  }
  ModelSpec gpt2 = find_family("gpt2")->defaults;
  gpt2.layers = 1, gpt2.width = 8, gpt2.heads = gpt2.kv_heads = 2, gpt2.head_width = 4, gpt2.ffn = 16;
  gpt2.vocabulary = 10, gpt2.context = 6, gpt2.tied = true;
  // Embedding and positions; two norms and the last one; q, k, v and the output with biases; both maps with biases.
  EXPECT_EQ(parameter_count(gpt2, true), 10 * 8 + 6 * 8 + 3 * 16 + 4 * (8 * 8 + 8) + (8 * 16 + 16) + (16 * 8 + 8));
  EXPECT_EQ(matmul_parameters(gpt2), 10 * 8 + 4 * 8 * 8 + 2 * 8 * 16) << "positions are looked up, not multiplied with";
}

TEST(LayerStateTest, SequencesAreForkedAndBatched) {
  constexpr int kWidth = 3, kCapacity = 2;
  KvCache first(1, kCapacity, kWidth, DType::kF32, host_memory()),
      second(1, kCapacity, kWidth, DType::kF32, host_memory());
  const auto fill = [](KvCache& cache, float value) {
    for (const TensorView& matrix : cache.contents(kCapacity))
      std::ranges::fill_n(matrix.row<float>(0), kCapacity * kWidth, value++);
  };
  fill(first, 1), fill(second, 5);
  const std::unique_ptr<LayerState> fork = first.fork();
  fill(first, 9);
  EXPECT_EQ(static_cast<KvCache&>(*fork).k_SGK().row<float>(0)[0], 1) << "a fork is independent";

  KvCache batched(2, kCapacity, kWidth, DType::kF32, host_memory());
  batched.copy_sequence(0, second, 0);
  batched.copy_sequence(1, *fork, 0);
  for (int row = 0; row < 2 * kCapacity; ++row) {
    EXPECT_EQ(batched.k_SGK().row<float>(row)[kWidth - 1], row < kCapacity ? 5 : 1);
    EXPECT_EQ(batched.v_SGK().row<float>(row)[0], row < kCapacity ? 6 : 2);
  }
  KvCache narrower(1, kCapacity, 2, DType::kF32, host_memory());
  EXPECT_THROW(batched.copy_sequence(0, narrower, 0), Error);
}

}  // namespace
}  // namespace slipway
