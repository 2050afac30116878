// A GGUF as a model: keys, names, and the order of rows. Its logits: tests/foreign/llama_logits.py.
#include <gtest/gtest.h>

#include <cmath>

#include "io/model/gguf_checks.hpp"
#include "io/model/gguf_model.hpp"
#include "io/model/tensor_layout.hpp"
#include "src/model/model_tensors.hpp"
#include "tests/support/core_files.hpp"
#include "tests/support/malformed.hpp"
#include "tests/support/random_model.hpp"

namespace slipway {
namespace {

using test::RandomWeights;
using test::stretched_spec;
using test::tiny_spec;

/// Writes a model in f32 under the given keys, as a converter would; with these divisors of RoPE, or with llama3's.
void write_model(const std::filesystem::path& path, const ModelSpec& model, const TensorSource& weights,
                 const GgufMetadata& metadata, std::vector<float> divisors = {}) {
  std::vector<FileTensor> tensors = to_file_tensors(model, ModelFormat::kGguf, weights.tensors());
  if (model.rope_scaling == "llama3" && divisors.empty()) divisors = model.rope_freq_factors();
  if (!divisors.empty()) tensors.push_back(FileTensor{{"rope_freqs.weight", {std::ssize(divisors)}}, {}});
  std::vector<GgufTensorSpec> plan;
  for (const FileTensor& tensor : tensors) plan.push_back({tensor.stored, TensorType::kF32});
  write_gguf(path, metadata, plan, [&](std::size_t i, const ByteSink& sink) {
    const FileTensor& tensor = tensors[i];
    if (tensor.parts.empty()) return sink(std::as_bytes(std::span(divisors)));
    std::vector<float> stored(static_cast<std::size_t>(tensor.stored.size())), values;
    for (std::size_t p = 0; p < tensor.parts.size(); ++p) {
      const TensorInfo& part = tensor.parts[p];
      values.resize(static_cast<std::size_t>(part.size()));
      weights.read(part.name, values);
      const int heads = permuted_heads(model, part.name);
      if (heads > 0) permute_rope(values, heads, part.shape.size() == 1 ? 1 : part.cols());
      insert_part(tensor, p, values, stored);
    }
    sink(std::as_bytes(std::span(stored)));
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

TEST(GgufModel, EveryNameGoesIntoAFileAndBack) {
  for (const char* architecture : {"llama", "qwen2", "qwen3", "gpt2"})
    for (const ModelFormat format : {ModelFormat::kGguf, ModelFormat::kHuggingFace}) {
      const ModelSpec model = tiny_spec(architecture, false);
      const std::vector<TensorInfo> tensors = tensors_of(model);
      std::vector<TensorInfo> found;
      for (const FileTensor& one : to_file_tensors(model, format, tensors)) {
        EXPECT_EQ(to_canonical_tensors(model, format, one.stored).parts, one.parts) << one.stored.name;
        found.insert(found.end(), one.parts.begin(), one.parts.end());
      }
      EXPECT_EQ(found, tensors) << architecture;
    }
  const ModelSpec llama = tiny_spec("llama", false);
  const auto stored_name = [&](const char* canonical) {
    const std::vector<TensorInfo> one = {{canonical, {96, 96}}};
    return to_file_tensors(llama, ModelFormat::kHuggingFace, one).front().stored.name;
  };
  EXPECT_EQ(stored_name("blk.12.attn_q.weight"), "model.layers.12.self_attn.q_proj.weight");
  EXPECT_EQ(stored_name("output_norm.weight"), "model.norm.weight");
  for (const char* strange : {"model.layers.x.mlp.up_proj.weight", "model.layers.1", "transformer.wte.weight",
                              "model.layers.-1.mlp.up_proj.weight"})
    expect_error(Fault::kStorage, strange, [&] {
      to_canonical_tensors(llama, ModelFormat::kHuggingFace, {strange, {96, 96}});
    });
}

TEST(GgufModel, Gpt2sQueriesKeysAndValuesAreOneTensorAndItsFoldersHoldMatricesTransposed) {
  const ModelSpec gpt2 = tiny_spec("gpt2", true);
  const auto of = [&](ModelFormat format, const std::string& name) {
    for (const FileTensor& one : to_file_tensors(gpt2, format, tensors_of(gpt2)))
      if (one.stored.name == name) return one;
    throw std::runtime_error("no tensor " + name);
  };
  using Shape = std::vector<std::int64_t>;
  const FileTensor gguf = of(ModelFormat::kGguf, "blk.1.attn_qkv.weight"),
                   folder = of(ModelFormat::kHuggingFace, "transformer.h.1.attn.c_attn.weight");
  EXPECT_EQ(gguf.stored.shape, (Shape{288, 96}));
  EXPECT_EQ(folder.stored.shape, (Shape{96, 288}));
  ASSERT_EQ(folder.parts.size(), 3u);
  EXPECT_EQ(folder.parts[1], (TensorInfo{"blk.1.attn_k.weight", {96, 96}}));
  EXPECT_EQ(of(ModelFormat::kGguf, "blk.0.attn_qkv.bias").stored.shape, Shape{288});
  EXPECT_EQ(of(ModelFormat::kHuggingFace, "transformer.h.0.mlp.c_fc.weight").stored.shape, (Shape{96, 160}));
  EXPECT_FALSE(of(ModelFormat::kHuggingFace, "transformer.wpe.weight").transposed);

  const auto opened = [&](const char* name, const Shape& shape) {
    return to_canonical_tensors(gpt2, ModelFormat::kHuggingFace, {name, shape});
  };
  EXPECT_EQ(opened("h.1.attn.c_attn.weight", {96, 288}).parts, folder.parts) << "as GPT-2 itself was published";
  EXPECT_EQ(opened("wte.weight", {290, 96}).parts.front().name, "token_embd.weight");
  EXPECT_TRUE(opened("h.1.attn.bias", {1, 1, 128, 128}).parts.empty()) << "a mask, and no bias";
  EXPECT_TRUE(to_canonical_tensors(tiny_spec("llama", true), ModelFormat::kHuggingFace,
                                   {"model.layers.1.self_attn.rotary_emb.inv_freq", {8}})
                  .parts.empty())
      << "what follows from config.json, as Llama 2's folders have it";
  expect_error(Fault::kStorage, "has 289 outputs, expected 288 for q, k and v", [&] {
    opened("h.1.attn.c_attn.weight", {96, 289});
  });
  expect_error(Fault::kStorage, "h.1.mlp.c_fc.weight has 1 axis, expected a matrix",
               [&] { opened("h.1.mlp.c_fc.weight", {96}); });
}

TEST(GgufModel, PartsOfATensorAreRowsOrColumnsOfIt) {
  FileTensor tensor{{"whole", {3, 2}}, {{"a", {1, 2}}, {"b", {2, 2}}}};
  std::vector<float> stored(6), part(4);
  insert_part(tensor, 1, std::vector<float>{3, 4, 5, 6}, stored);
  insert_part(tensor, 0, std::vector<float>{1, 2}, stored);
  EXPECT_EQ(stored, (std::vector<float>{1, 2, 3, 4, 5, 6}));
  tensor.stored.shape = {2, 3}, tensor.transposed = true;
  insert_part(tensor, 1, std::vector<float>{3, 4, 5, 6}, stored);
  insert_part(tensor, 0, std::vector<float>{1, 2}, stored);
  EXPECT_EQ(stored, (std::vector<float>{1, 3, 5, 2, 4, 6}));
  extract_part(tensor, 1, stored, part);
  EXPECT_EQ(part, (std::vector<float>{3, 4, 5, 6}));
}

/// Every family, and the ways in which RoPE is stretched.
std::vector<ModelSpec> all_specs() {
  std::vector<ModelSpec> all = {stretched_spec("linear"), stretched_spec("llama3")};
  for (const char* architecture : {"llama", "qwen2", "qwen3", "gpt2"})
    for (const bool tied : {true, false}) all.push_back(tiny_spec(architecture, tied));
  ModelSpec biased = tiny_spec("llama", true);
  biased.qkv_bias = biased.output_bias = true, biased.head_width = 20, biased.name = "biased llama";
  all.push_back(biased);
  return all;
}

TEST(GgufModel, GivesBackTheDescriptionAndEveryWeightInOurOrder) {
  const ScratchFolder folder;
  for (const ModelSpec& model : all_specs()) {
    const RandomWeights weights(model, /*seed=*/1);
    write_model(folder / "m.gguf", model, weights, gguf_metadata_of(model, TensorType::kF32));
    const GgufModel reopened(folder / "m.gguf");
    ModelSpec want = model;
    want.norm_eps = 1e-5f;  // a GGUF stores f32
    EXPECT_EQ(reopened.spec(), want) << model.name << ": " << difference(reopened.spec(), want);
    ASSERT_EQ(reopened.tensors(), weights.tensors());
    for (const TensorInfo& tensor : reopened.tensors()) {
      std::vector<float> given(static_cast<std::size_t>(tensor.size())), found(given.size());
      weights.read(tensor.name, given);
      reopened.read(tensor.name, found);
      EXPECT_EQ(found, given) << model.name << " " << tensor.name;
    }
  }
}

TEST(GgufModel, StoredRowsStandInTheOrderOfRead) {
  const ScratchFolder folder;
  for (const ModelSpec& model : {tiny_spec("llama", true), tiny_spec("gpt2", true)}) {
    const RandomWeights weights(model, /*seed=*/1);
    write_model(folder / "m.gguf", model, weights, gguf_metadata_of(model, TensorType::kF32));
    const GgufModel reopened(folder / "m.gguf");
    for (const TensorInfo& tensor : reopened.tensors()) {
      std::vector<float> read(static_cast<std::size_t>(tensor.size())), stored(read.size());
      reopened.read(tensor.name, read);
      if (tensor.shape.size() == 1) continue;
      reopened.read_stored(tensor.name, std::as_writable_bytes(std::span(stored)));
      EXPECT_EQ(stored, read) << tensor.name;
      EXPECT_EQ(reopened.stored_as(tensor.name), TensorType::kF32);
    }
    EXPECT_EQ(reopened.stored_as("blk.99.nothing"), TensorType::kF32);
  }
}

TEST(GgufModel, Llama3sParametersAreFoundInItsDivisors) {
  const ScratchFolder folder;
  ModelSpec model = tiny_spec("llama", true);
  model.rope_scaling = "llama3", model.rope_factor = 8;
  const RandomWeights weights(model, 1);
  const auto reopened = [&](const std::vector<float>& divisors) {
    GgufMetadata foreign;  // as llama.cpp's converter writes it
    for (const auto& [key, value] : gguf_metadata_of(model, TensorType::kF32))
      if (key != "slipway.rope_llama3") foreign.add(key, value);
    write_model(folder / "m.gguf", model, weights, foreign, divisors);
    return GgufModel(folder / "m.gguf").spec();
  };
  for (const int context : {1024, 8192, 1 << 16})
    for (const double factor : {8.0, 32.0}) {
      model.rope_original_context = context, model.rope_factor = factor;
      const std::vector<float> divisors = model.rope_freq_factors();
      const ModelSpec found = reopened(divisors);
      EXPECT_EQ(found.rope_freq_factors(), divisors) << context;
      EXPECT_EQ(found.rope_factor, factor);
      EXPECT_EQ(found.rope_original_context, context);
    }
  EXPECT_EQ(reopened(std::vector<float>(8, 1)).rope_scaling, "none");
  std::vector<float> odd = model.rope_freq_factors();
  odd[0] = 3;
  expect_error(Fault::kStorage, "are not llama3's for any original context", [&] { reopened(odd); });
  expect_error(Fault::kStorage, "are not llama3's", [&] { reopened({1, 2}); });
}

TEST(GgufModel, LinearScalingIsReadUnderBothItsKeys) {
  const ScratchFolder folder;
  const ModelSpec model = tiny_spec("llama", true);
  const RandomWeights weights(model, 1);
  const auto reopened = [&](const std::vector<std::pair<const char*, GgufValue>>& pairs) {
    GgufMetadata data = gguf_metadata_of(model, TensorType::kF32);
    for (const auto& [key, value] : pairs) data.add(join("llama.rope.", key), value);
    write_model(folder / "m.gguf", model, weights, data);
    return GgufModel(folder / "m.gguf").spec();
  };
  const GgufValue linear = std::string("linear"), none = std::string("none");
  for (const auto& spec : {reopened({{"scaling.type", linear}, {"scaling.factor", 4.0f}}),
                           reopened({{"scaling.factor", 4.0f}}), reopened({{"scale_linear", 4.0f}})}) {
    EXPECT_EQ(spec.rope_scaling, "linear");
    EXPECT_EQ(spec.rope_factor, 4);
  }
  for (const auto& spec :
       {reopened({{"scaling.type", none}, {"scaling.factor", 4.0f}}),
        reopened({{"scaling.type", linear}, {"scaling.factor", 1.0f}}), reopened({{"scale_linear", 0.0f}})}) {
    EXPECT_EQ(spec.rope_scaling, "none");
    EXPECT_EQ(spec.rope_factor, 1);
  }
}

TEST(GgufModel, ReadsTheDefaultsThatLlamaCppReads) {
  const ScratchFolder folder;
  ModelSpec model = tiny_spec("llama", true);
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
  const ModelSpec found = GgufModel(folder / "m.gguf").spec();
  EXPECT_EQ(found.kv_heads, model.heads);
  EXPECT_EQ(found.head_width, model.width / model.heads);
  EXPECT_EQ(found.rope_base, 10000.0);
}

TEST(GgufModel, RefusesWhatItWouldComputeWrongly) {
  const ScratchFolder folder;
  const ModelSpec model = tiny_spec("llama", true);
  const RandomWeights weights(model, 1);
  const auto with = [&](const char* key, GgufValue value) {
    GgufMetadata data;
    for (const auto& [name, held] : gguf_metadata_of(model, TensorType::kF32))
      data.add(name, name == key ? value : held);
    if (!data.has(key)) data.add(key, value);
    write_model(folder / "m.gguf", model, weights, data);
    const GgufModel opened(folder / "m.gguf");
    check_tensors(opened.spec(), opened, "m.gguf", "the file's own keys");
  };
  expect_error(Fault::kStorage, "RoPE scaling of type 'yarn'",
               [&] { with("llama.rope.scaling.type", std::string("yarn")); });
  const auto refused = [&](const char* key, GgufValue value, const std::string& says) {
    expect_error(Fault::kStorage, join("the key ", key, " is ", says), [&] { with(key, value); });
  };
  refused("llama.expert_count", std::uint32_t{8}, "8");
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
  expect_error(Fault::kStorage, "has no place in this llama model",
               [&] { with("llama.block_count", std::uint32_t{1}); });
}

TEST(GgufModel, FlippedBytesNeverCrashIt) {
  const ScratchFolder folder;
  ModelSpec model = tiny_spec("qwen3", false);
  model.layers = 1, model.width = 8, model.heads = 2, model.kv_heads = 1, model.head_width = 2, model.ffn = 6,
  model.vocabulary = 11;
  write_model(folder / "m.gguf", model, RandomWeights(model, 1), gguf_metadata_of(model, TensorType::kF32));
  const std::string good = read_file(folder / "m.gguf", Fault::kStorage);
  const std::size_t head = GgufFile(folder / "m.gguf").tensors().front().offset;
  test::expect_flips_survived(good, head, /*rounds=*/1000, Fault::kStorage, [&](const std::string& bytes) {
    test::write_new(folder / "flipped.gguf", bytes);
    const GgufModel opened(folder / "flipped.gguf");
    for (const TensorInfo& tensor : opened.tensors()) {
      std::vector<float> values(static_cast<std::size_t>(tensor.size()));
      opened.read(tensor.name, values);
    }
  });
}

}  // namespace
}  // namespace slipway
