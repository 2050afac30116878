// A GGUF as a model: keys, names, and the order of rows. Its numbers: tests/foreign/llama_logits.py.
#include <gtest/gtest.h>

#include <cmath>

#include "io/gguf_keys.hpp"
#include "io/gguf_model.hpp"
#include "io/tensor_names.hpp"
#include "tests/support/core_files.hpp"
#include "tests/support/malformed.hpp"
#include "tests/support/random_model.hpp"

namespace slipway {
namespace {

using test::RandomWeights;
using test::tiny_description;

/// Writes a model in f32 under the given keys, as a converter would.
void write_model(const std::filesystem::path& path, const ModelDescription& model, const TensorSource& weights,
                 const GgufMetadata& metadata) {
  std::vector<GgufPlan> plan;
  for (const NamedTensor& tensor : weights.tensors()) plan.push_back({tensor, TensorType::kF32});
  write_gguf(path, metadata, plan, [&](std::size_t i, const ByteSink& sink) {
    const NamedTensor& tensor = plan[i].tensor;
    std::vector<float> values(static_cast<std::size_t>(tensor.size()));
    weights.read(tensor.name, values);
    const int heads = permuted_heads(model, tensor.name);
    if (heads > 0) permute_rope(values, heads, tensor.shape.size() == 1 ? 1 : tensor.cols());
    sink(std::as_bytes(std::span(values)));
  });
}

TEST(GgufModel, LlamaRowsMoveFromHalvesToNeighboursInsideEachHead) {
  std::vector<float> rows = {0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15};  // two heads of width 6, one column
  permute_rope(rows, 2, 1);
  EXPECT_EQ(rows, (std::vector<float>{0, 3, 1, 4, 2, 5, 10, 13, 11, 14, 12, 15}));
  unpermute_rope(rows, 2, 1);
  EXPECT_EQ(rows, (std::vector<float>{0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15}));

  std::vector<float> wide = {0, 0, 1, 1, 2, 2, 3, 3};  // one head of width 4, two columns
  permute_rope(wide, 1, 2);
  EXPECT_EQ(wide, (std::vector<float>{0, 0, 2, 2, 1, 1, 3, 3}));
}

TEST(GgufModel, EveryNameGoesToHuggingFaceAndBack) {
  for (const char* architecture : {"llama", "qwen2", "qwen3"})
    for (const NamedTensor& tensor : tensors_of(tiny_description(architecture, false)))
      EXPECT_EQ(gguf_name(hugging_face_name(tensor.name)), tensor.name);
  EXPECT_EQ(hugging_face_name("blk.12.attn_q.weight"), "model.layers.12.self_attn.q_proj.weight");
  EXPECT_EQ(hugging_face_name("output_norm.weight"), "model.norm.weight");
  for (const char* strange : {"model.layers.x.mlp.up_proj.weight", "model.layers.1", "transformer.wte.weight",
                              "model.layers.-1.mlp.up_proj.weight"})
    expect_error(Fault::kStorage, strange, [&] { gguf_name(strange); });
}

TEST(GgufModel, GivesBackTheDescriptionAndEveryWeightInOurOrder) {
  const ScratchFolder folder;
  for (const char* architecture : {"llama", "qwen2", "qwen3"})
    for (const bool tied : {true, false}) {
      const ModelDescription model = tiny_description(architecture, tied);
      const RandomWeights weights(model, /*seed=*/1);
      write_model(folder / "m.gguf", model, weights, gguf_metadata_of(model, TensorType::kF32));
      const GgufModel reopened(folder / "m.gguf");
      ModelDescription want = model;
      want.norm_eps = 1e-5f;  // a GGUF keeps 32 bits
      EXPECT_EQ(reopened.description(), want) << architecture;
      ASSERT_EQ(reopened.tensors(), weights.tensors());
      for (const NamedTensor& tensor : reopened.tensors()) {
        std::vector<float> given(static_cast<std::size_t>(tensor.size())), found(given.size());
        weights.read(tensor.name, given);
        reopened.read(tensor.name, found);
        EXPECT_EQ(found, given) << architecture << " " << tensor.name;
      }
    }
}

TEST(GgufModel, StoredRowsStandInTheOrderOfRead) {
  const ScratchFolder folder;
  const ModelDescription model = tiny_description("llama", true);
  const RandomWeights weights(model, /*seed=*/1);
  write_model(folder / "m.gguf", model, weights, gguf_metadata_of(model, TensorType::kF32));
  const GgufModel reopened(folder / "m.gguf");
  for (const NamedTensor& tensor : reopened.tensors()) {
    std::vector<float> read(static_cast<std::size_t>(tensor.size())), stored(read.size());
    reopened.read(tensor.name, read);
    reopened.read_stored(tensor.name, std::as_writable_bytes(std::span(stored)));
    EXPECT_EQ(stored, read) << tensor.name;
    EXPECT_EQ(reopened.stored_as(tensor.name), TensorType::kF32);
  }
  EXPECT_EQ(reopened.stored_as("blk.99.nothing"), TensorType::kF32);
}

TEST(GgufModel, ReadsTheDefaultsThatLlamaCppReads) {
  const ScratchFolder folder;
  ModelDescription model = tiny_description("llama", true);
  model.kv_heads = model.heads;
  const RandomWeights weights(model, 1);
  GgufMetadata least;  // only what is required
  for (const auto& [key, value] : gguf_metadata_of(model, TensorType::kF32))
    if (!key.ends_with("head_count_kv") && !key.ends_with("freq_base") && !key.ends_with("_length") &&
        !key.starts_with("slipway."))
      least.add(key, value);
  for (const auto& [key, value] : gguf_metadata_of(model, TensorType::kF32))
    if (key.ends_with("context_length") || key.ends_with("embedding_length") || key.ends_with("forward_length"))
      least.add(key, value);
  write_model(folder / "m.gguf", model, weights, least);
  const ModelDescription found = GgufModel(folder / "m.gguf").description();
  EXPECT_EQ(found.kv_heads, model.heads);
  EXPECT_EQ(found.head_width, model.width / model.heads);
  EXPECT_EQ(found.rope_base, 10000.0);
}

TEST(GgufModel, RefusesWhatItWouldComputeWrongly) {
  const ScratchFolder folder;
  const ModelDescription model = tiny_description("llama", true);
  const RandomWeights weights(model, 1);
  const auto with = [&](const char* key, GgufValue value) {
    GgufMetadata data;
    for (const auto& [name, held] : gguf_metadata_of(model, TensorType::kF32))
      data.add(name, name == key ? value : held);
    if (!data.has(key)) data.add(key, value);
    write_model(folder / "m.gguf", model, weights, data);
    const GgufModel opened(folder / "m.gguf");
  };
  expect_error(Fault::kStorage, "RoPE scaling of type 'yarn'",
               [&] { with("llama.rope.scaling.type", std::string("yarn")); });
  const auto refused = [&](const char* key, GgufValue value, const std::string& says) {
    expect_error(Fault::kStorage, join("the key ", key, " is ", says), [&] { with(key, value); });
  };
  refused("llama.expert_count", std::uint32_t{8}, "8");
  refused("llama.rope.scale_linear", 4.0f, "4");
  refused("llama.rope.scaling.factor", 4.0f, "4");
  refused("llama.rope.scaling.attn_factor", 0.5f, "0.5");
  refused("llama.attention.scale", 0.5f, "0.5");
  refused("llama.attention.sliding_window", std::uint32_t{127}, "127");
  refused("llama.attention.causal", false, "0");
  refused("llama.attention.clamp_kqv", 8.0f, "8");
  refused("llama.final_logit_softcapping", 30.0f, "30");
  refused("llama.attn_logit_softcapping", 50.0f, "50");
  refused("llama.logit_scale", 0.0625f, "0.0625");
  refused("llama.embedding_scale", 12.0f, "12");
  refused("llama.residual_scale", 0.22f, "0.22");
  refused("llama.rope.dimension_sections", GgufArray(std::vector<std::int32_t>{8, 8}), "an array");
  refused("llama.something.new", std::string("x\n"), "'x?'");
  const float usual_scale = 1.0f / std::sqrt(static_cast<float>(model.head_width));
  for (const auto& [key, value] : std::initializer_list<std::pair<const char*, GgufValue>>{
           {"llama.rope.scaling.type", std::string("none")},
           {"llama.rope.scaling.type", std::string("linear")},
           {"llama.rope.scale_linear", 1.0f},
           {"llama.attention.scale", usual_scale},
           {"llama.attention.sliding_window", std::uint32_t{128}},
           {"llama.attention.causal", true},
           {"llama.expert_used_count", std::uint32_t{2}},
           {"llama.tensor_data_layout", std::string("Meta AI original pth")},
           {"qwen2.rope.scale_linear", 4.0f},
           {"general.size_label", std::string("1M")}})
    EXPECT_NO_THROW(with(key, value)) << key;
  expect_error(Fault::kStorage, "this is part 2 of a model in 3 files; join them with: llama-gguf-split --merge", [&] {
    GgufMetadata part("m.gguf");
    part.add("split.no", std::uint16_t{1});
    part.add("split.count", std::uint16_t{3});
    refuse_partial_file(part);
  });
  expect_error(Fault::kStorage, "general.type is 'adapter'", [&] { with("general.type", std::string("adapter")); });
  expect_error(Fault::kStorage, "the tokenizer has 291 tokens, but the embedding only 290 rows",
               [&] { with("tokenizer.ggml.tokens", GgufArray(std::vector<std::string>(291, "t"))); });
  expect_error(Fault::kStorage, "RoPE on 8 of 16", [&] { with("llama.rope.dimension_count", std::uint32_t{8}); });
  expect_error(Fault::kStorage, "the architecture is 'gemma'",
               [&] { with("general.architecture", std::string("gemma")); });
  expect_error(Fault::kStorage, "from the file's own keys",
               [&] { with("llama.feed_forward_length", std::uint32_t{161}); });
  expect_error(Fault::kStorage, "cannot share 4 key-value heads",
               [&] { with("llama.attention.head_count_kv", std::uint32_t{4}); });
  expect_error(Fault::kStorage, "is missing", [&] { with("llama.block_count", std::uint32_t{3}); });
  expect_error(Fault::kStorage, "16000000 layers are declared",
               [&] { with("llama.block_count", std::uint32_t{16'000'000}); });
  expect_error(Fault::kStorage, "has no place in a llama model", [&] { with("llama.block_count", std::uint32_t{1}); });
}

TEST(GgufModel, FlippedBytesNeverCrashIt) {
  const ScratchFolder folder;
  ModelDescription model = tiny_description("qwen3", false);
  model.layers = 1, model.width = 8, model.heads = 2, model.kv_heads = 1, model.head_width = 2, model.ffn = 6,
  model.vocabulary = 11;
  write_model(folder / "m.gguf", model, RandomWeights(model, 1), gguf_metadata_of(model, TensorType::kF32));
  const std::string good = read_file(folder / "m.gguf", Fault::kStorage);
  const std::size_t head = GgufFile(folder / "m.gguf").tensors().front().offset;
  test::expect_flips_survived(good, head, /*rounds=*/1000, Fault::kStorage, [&](const std::string& bytes) {
    test::write_new(folder / "flipped.gguf", bytes);
    const GgufModel opened(folder / "flipped.gguf");
    for (const NamedTensor& tensor : opened.tensors()) {
      std::vector<float> values(static_cast<std::size_t>(tensor.size()));
      opened.read(tensor.name, values);
    }
  });
}

}  // namespace
}  // namespace slipway
