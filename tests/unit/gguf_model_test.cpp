// A GGUF as a model: keys, names, and the order of rows. Its logits: tests/interop/llama_logits.py.
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

  std::vector<float> wide_rows = {0, 0, 1, 1, 2, 2, 3, 3};  // one head of width 4, two columns
  permute_rope(wide_rows, 1, 2);
  EXPECT_EQ(wide_rows, (std::vector<float>{0, 0, 2, 2, 1, 1, 3, 3}));
}

TEST(GgufModel, EveryNameGoesIntoAFileAndBack) {
  for (const char* architecture : {"llama", "qwen2", "qwen3", "gpt2"})
    for (const ModelFormat format : {ModelFormat::kGguf, ModelFormat::kHuggingFace}) {
      const ModelSpec model = tiny_spec(architecture, false);
      const std::vector<TensorInfo> tensors = tensors_of(model);
      std::vector<TensorInfo> actual;
      for (const FileTensor& file_tensor : to_file_tensors(model, format, tensors)) {
        EXPECT_EQ(to_canonical_tensors(model, format, file_tensor.stored).parts, file_tensor.parts)
            << file_tensor.stored.name;
        actual.insert(actual.end(), file_tensor.parts.begin(), file_tensor.parts.end());
      }
      EXPECT_EQ(actual, tensors) << architecture;
    }
  const ModelSpec llama = tiny_spec("llama", false);
  const auto stored_name = [&](const char* canonical) {
    const std::vector<TensorInfo> file_tensor = {{canonical, {96, 96}}};
    return to_file_tensors(llama, ModelFormat::kHuggingFace, file_tensor).front().stored.name;
  };
  EXPECT_EQ(stored_name("blk.12.attn_q.weight"), "model.layers.12.self_attn.q_proj.weight");
  EXPECT_EQ(stored_name("output_norm.weight"), "model.norm.weight");
  for (const char* unknown_name : {"model.layers.x.mlp.up_proj.weight", "model.layers.1", "transformer.wte.weight",
                                   "model.layers.-1.mlp.up_proj.weight"})
    expect_error(Fault::kStorage, unknown_name, [&] {
      to_canonical_tensors(llama, ModelFormat::kHuggingFace, {unknown_name, {96, 96}});
    });
}

TEST(GgufModel, Gpt2sQueriesKeysAndValuesAreOneTensorAndItsFoldersHoldMatricesTransposed) {
  const ModelSpec gpt2 = tiny_spec("gpt2", true);
  const auto file_tensor_named = [&](ModelFormat format, const std::string& name) {
    for (const FileTensor& file_tensor : to_file_tensors(gpt2, format, tensors_of(gpt2)))
      if (file_tensor.stored.name == name) return file_tensor;
    throw std::runtime_error("no tensor " + name);
  };
  using Shape = std::vector<std::int64_t>;
  const FileTensor gguf = file_tensor_named(ModelFormat::kGguf, "blk.1.attn_qkv.weight"),
                   folder = file_tensor_named(ModelFormat::kHuggingFace, "transformer.h.1.attn.c_attn.weight");
  EXPECT_EQ(gguf.stored.shape, (Shape{288, 96}));
  EXPECT_EQ(folder.stored.shape, (Shape{96, 288}));
  ASSERT_EQ(folder.parts.size(), 3u);
  EXPECT_EQ(folder.parts[1], (TensorInfo{"blk.1.attn_k.weight", {96, 96}}));
  EXPECT_EQ(file_tensor_named(ModelFormat::kGguf, "blk.0.attn_qkv.bias").stored.shape, Shape{288});
  EXPECT_EQ(file_tensor_named(ModelFormat::kHuggingFace, "transformer.h.0.mlp.c_fc.weight").stored.shape,
            (Shape{96, 160}));
  EXPECT_FALSE(file_tensor_named(ModelFormat::kHuggingFace, "transformer.wpe.weight").transposed);

  const auto to_canonical = [&](const char* name, const Shape& shape) {
    return to_canonical_tensors(gpt2, ModelFormat::kHuggingFace, {name, shape});
  };
  EXPECT_EQ(to_canonical("h.1.attn.c_attn.weight", {96, 288}).parts, folder.parts) << "as GPT-2 itself was published";
  EXPECT_EQ(to_canonical("wte.weight", {290, 96}).parts.front().name, "token_embd.weight");
  EXPECT_TRUE(to_canonical("h.1.attn.bias", {1, 1, 128, 128}).parts.empty()) << "a mask, and no bias";
  EXPECT_TRUE(to_canonical_tensors(tiny_spec("llama", true), ModelFormat::kHuggingFace,
                                   {"model.layers.1.self_attn.rotary_emb.inv_freq", {8}})
                  .parts.empty())
      << "what follows from config.json, as Llama 2's folders have it";
  expect_error(Fault::kStorage, "has 289 outputs, expected 288 for q, k and v", [&] {
    to_canonical("h.1.attn.c_attn.weight", {96, 289});
  });
  expect_error(Fault::kStorage, "h.1.mlp.c_fc.weight has 1 axis, expected a matrix",
               [&] { to_canonical("h.1.mlp.c_fc.weight", {96}); });
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
  std::vector<ModelSpec> specs = {stretched_spec("linear"), stretched_spec("llama3")};
  for (const char* architecture : {"llama", "qwen2", "qwen3", "gpt2"})
    for (const bool tied : {true, false}) specs.push_back(tiny_spec(architecture, tied));
  ModelSpec biased = tiny_spec("llama", true);
  biased.qkv_bias = biased.output_bias = true, biased.head_width = 20, biased.name = "biased llama";
  specs.push_back(biased);
  return specs;
}

TEST(GgufModel, GivesBackTheDescriptionAndEveryWeightInOurOrder) {
  const ScratchFolder folder;
  for (const ModelSpec& model : all_specs()) {
    const RandomWeights weights(model, /*seed=*/1);
    write_model(folder / "m.gguf", model, weights, gguf_metadata_of(model, TensorType::kF32));
    const GgufModel reopened(folder / "m.gguf");
    ModelSpec expected = model;
    expected.norm_eps = 1e-5f;  // a GGUF stores f32
    EXPECT_EQ(reopened.spec(), expected) << model.name << ": " << describe_difference(reopened.spec(), expected);
    ASSERT_EQ(reopened.tensors(), weights.tensors());
    for (const TensorInfo& tensor : reopened.tensors()) {
      std::vector<float> original(static_cast<std::size_t>(tensor.size())), actual(original.size());
      weights.read(tensor.name, original);
      reopened.read(tensor.name, actual);
      EXPECT_EQ(actual, original) << model.name << " " << tensor.name;
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
      std::vector<float> values(static_cast<std::size_t>(tensor.size())), stored(values.size());
      reopened.read(tensor.name, values);
      if (tensor.shape.size() == 1) continue;
      reopened.read_stored(tensor.name, std::as_writable_bytes(std::span(stored)));
      EXPECT_EQ(stored, values) << tensor.name;
      EXPECT_EQ(reopened.stored_type(tensor.name), TensorType::kF32);
    }
    EXPECT_EQ(reopened.stored_type("blk.99.nothing"), TensorType::kF32);
  }
}

TEST(GgufModel, Llama3sParametersAreFoundInItsDivisors) {
  const ScratchFolder folder;
  ModelSpec model = tiny_spec("llama", true);
  model.rope_scaling = "llama3", model.rope_factor = 8;
  const RandomWeights weights(model, 1);
  const auto reopened = [&](const std::vector<float>& divisors) {
    GgufMetadata llama_cpp_metadata;  // as llama.cpp's converter writes it
    for (const auto& [key, value] : gguf_metadata_of(model, TensorType::kF32))
      if (key != "slipway.rope_llama3") llama_cpp_metadata.add(key, value);
    write_model(folder / "m.gguf", model, weights, llama_cpp_metadata, divisors);
    return GgufModel(folder / "m.gguf").spec();
  };
  for (const int context : {1024, 8192, 1 << 16})
    for (const double factor : {8.0, 32.0}) {
      model.rope_original_context = context, model.rope_factor = factor;
      const std::vector<float> divisors = model.rope_freq_factors();
      const ModelSpec actual = reopened(divisors);
      EXPECT_EQ(actual.rope_freq_factors(), divisors) << context;
      EXPECT_EQ(actual.rope_factor, factor);
      EXPECT_EQ(actual.rope_original_context, context);
    }
  EXPECT_EQ(reopened(std::vector<float>(8, 1)).rope_scaling, "none");
  std::vector<float> bad_divisors = model.rope_freq_factors();
  bad_divisors[0] = 3;
  expect_error(Fault::kStorage, "are not llama3's for any original context", [&] { reopened(bad_divisors); });
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
  GgufMetadata minimal;  // only what is required
  for (const auto& [key, value] : gguf_metadata_of(model, TensorType::kF32))
    if (!key.ends_with("head_count_kv") && !key.ends_with("freq_base") && !key.ends_with("_length") &&
        !key.starts_with("slipway."))
      minimal.add(key, value);
  for (const auto& [key, value] : gguf_metadata_of(model, TensorType::kF32))
    if (key.ends_with("context_length") || key.ends_with("embedding_length") || key.ends_with("forward_length"))
      minimal.add(key, value);
  write_model(folder / "m.gguf", model, weights, minimal);
  const ModelSpec actual = GgufModel(folder / "m.gguf").spec();
  EXPECT_EQ(actual.kv_heads, model.heads);
  EXPECT_EQ(actual.head_width, model.width / model.heads);
  EXPECT_EQ(actual.rope_base, 10000.0);
}

TEST(GgufModel, RefusesWhatItWouldComputeWrongly) {
  const ScratchFolder folder;
  const ModelSpec model = tiny_spec("llama", true);
  const RandomWeights weights(model, 1);
  const auto write_with = [&](const char* key, GgufValue value) {
    GgufMetadata data;
    for (const auto& [name, original_value] : gguf_metadata_of(model, TensorType::kF32))
      data.add(name, name == key ? value : original_value);
    if (!data.has(key)) data.add(key, value);
    write_model(folder / "m.gguf", model, weights, data);
    const GgufModel opened(folder / "m.gguf");
    check_tensors(opened.spec(), opened, "m.gguf", "the file's own keys");
  };
  expect_error(Fault::kStorage, "RoPE scaling of type 'yarn'",
               [&] { write_with("llama.rope.scaling.type", std::string("yarn")); });
  const auto expect_refused = [&](const char* key, GgufValue value, const std::string& says) {
    expect_error(Fault::kStorage, join("the key ", key, " is ", says), [&] { write_with(key, value); });
  };
  expect_refused("llama.expert_count", std::uint32_t{8}, "8");
  expect_refused("llama.rope.scaling.attn_factor", 0.5f, "0.5");
  expect_refused("llama.attention.scale", 0.5f, "0.5");
  expect_refused("llama.attention.sliding_window", std::uint32_t{127}, "127");
  expect_refused("llama.attention.causal", false, "0");
  expect_refused("llama.attention.clamp_kqv", 8.0f, "8");
  expect_refused("llama.final_logit_softcapping", 30.0f, "30");
  expect_refused("llama.attn_logit_softcapping", 50.0f, "50");
  expect_refused("llama.logit_scale", 0.0625f, "0.0625");
  expect_refused("llama.embedding_scale", 12.0f, "12");
  expect_refused("llama.residual_scale", 0.22f, "0.22");
  expect_refused("llama.rope.dimension_sections", GgufArray(std::vector<std::int32_t>{8, 8}), "an array");
  expect_refused("llama.something.new", std::string("x\n"), "'x?'");
  const float default_scale = 1.0f / std::sqrt(static_cast<float>(model.head_width));
  for (const auto& [key, value] : std::initializer_list<std::pair<const char*, GgufValue>>{
           {"llama.rope.scaling.type", std::string("none")},
           {"llama.rope.scaling.type", std::string("linear")},
           {"llama.rope.scale_linear", 1.0f},
           {"llama.attention.scale", default_scale},
           {"llama.attention.sliding_window", std::uint32_t{128}},
           {"llama.attention.causal", true},
           {"llama.expert_used_count", std::uint32_t{2}},
           {"llama.tensor_data_layout", std::string("Meta AI original pth")},
           {"qwen2.rope.scale_linear", 4.0f},
           {"general.size_label", std::string("1M")}})
    EXPECT_NO_THROW(write_with(key, value)) << key;
  expect_error(Fault::kStorage, "this is part 2 of a model in 3 files; join them with: llama-gguf-split --merge", [&] {
    GgufMetadata part("m.gguf");
    part.add("split.no", std::uint16_t{1});
    part.add("split.count", std::uint16_t{3});
    refuse_partial_file(part);
  });
  expect_error(Fault::kStorage, "general.type is 'adapter'",
               [&] { write_with("general.type", std::string("adapter")); });
  expect_error(Fault::kStorage, "the tokenizer has 291 tokens, but the embedding only 290 rows",
               [&] { write_with("tokenizer.ggml.tokens", GgufArray(std::vector<std::string>(291, "t"))); });
  expect_error(Fault::kStorage, "RoPE on 8 of 16", [&] { write_with("llama.rope.dimension_count", std::uint32_t{8}); });
  expect_error(Fault::kStorage, "the architecture is 'gemma'",
               [&] { write_with("general.architecture", std::string("gemma")); });
  expect_error(Fault::kStorage, "from the file's own keys",
               [&] { write_with("llama.feed_forward_length", std::uint32_t{161}); });
  expect_error(Fault::kStorage, "cannot share 4 key-value heads",
               [&] { write_with("llama.attention.head_count_kv", std::uint32_t{4}); });
  expect_error(Fault::kStorage, "is missing", [&] { write_with("llama.block_count", std::uint32_t{3}); });
  expect_error(Fault::kStorage, "16000000 layers are declared",
               [&] { write_with("llama.block_count", std::uint32_t{16'000'000}); });
  expect_error(Fault::kStorage, "has no place in this llama model",
               [&] { write_with("llama.block_count", std::uint32_t{1}); });
}

TEST(GgufModel, FlippedBytesNeverCrashIt) {
  const ScratchFolder folder;
  ModelSpec model = tiny_spec("qwen3", false);
  model.layers = 1, model.width = 8, model.heads = 2, model.kv_heads = 1, model.head_width = 2, model.ffn = 6,
  model.vocabulary = 11;
  write_model(folder / "m.gguf", model, RandomWeights(model, 1), gguf_metadata_of(model, TensorType::kF32));
  const std::string good = read_file(folder / "m.gguf", Fault::kStorage);
  const std::size_t head = GgufFile(folder / "m.gguf").tensors().front().offset;
  test::expect_byte_flips_handled(good, head, /*rounds=*/1000, Fault::kStorage, [&](const std::string& bytes) {
    test::write_new_file(folder / "flipped.gguf", bytes);
    const GgufModel opened(folder / "flipped.gguf");
    for (const TensorInfo& tensor : opened.tensors()) {
      std::vector<float> values(static_cast<std::size_t>(tensor.size()));
      opened.read(tensor.name, values);
    }
  });
}

}  // namespace
}  // namespace slipway
