// Exports as they are written, reopened and refused. What others read of them: tests/interop/*_oracle.py,
// llama_logits.py.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <limits>

#include "io/model/gguf_model.hpp"
#include "io/model/hugging_face_model.hpp"
#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/data/gguf_tokenizer.hpp"
#include "src/data/hugging_face_tokenizer.hpp"
#include "src/export/export.hpp"
#include "src/infer/loaded_model.hpp"
#include "tests/support/core_files.hpp"
#include "tests/support/random_model.hpp"
#include "tests/support/tiny_tokenizer.hpp"

namespace slipway {
namespace {

using test::RandomWeights;
using test::stretched_spec;
using test::tiny_spec;
using test::tiny_tokenizer;

std::ptrdiff_t count_entries(const std::filesystem::path& folder) {
  return std::distance(std::filesystem::directory_iterator(folder), {});
}

/// One model of each family, and llamas with RoPE scaling.
std::vector<ModelSpec> all_specs(bool tied) {
  std::vector<ModelSpec> specs = {stretched_spec("linear"), stretched_spec("llama3")};
  specs[0].rope_factor = 2.3;  // which f32 rounds
  for (const char* architecture : {"llama", "qwen2", "qwen3", "gpt2"}) specs.push_back(tiny_spec(architecture, tied));
  return specs;
}

TEST(Export, AGgufComesBackWithDescriptionTokenizerAndStoredWeights) {
  const ScratchFolder folder;
  for (const TensorType type : {TensorType::kF32, TensorType::kBf16, TensorType::kQ4_0})
    for (const ModelSpec& model : all_specs(type == TensorType::kF32)) {
      const Tokenizer tokenizer = tiny_tokenizer(
          model.vocabulary, model.architecture == "llama" ? PreTokenizer::kSmollm : PreTokenizer::kQwen2);
      const ExportReport report = export_gguf(model, tokenizer, RandomWeights(model, 4), type, folder / "m.gguf");
      EXPECT_EQ(report.bytes, std::filesystem::file_size(folder / "m.gguf"));
      EXPECT_EQ(report.largest_difference == 0.0, type == TensorType::kF32);
      const GgufModel reopened(folder / "m.gguf");
      EXPECT_EQ(static_cast<int>(reopened.file().tensors().size()), report.tensors);
      EXPECT_EQ(reopened.tensors(), tensors_of(model)) << model.name;
      EXPECT_EQ(reopened.spec().rope_freq_factors().size(), model.rope_freq_factors().size()) << model.name;
      EXPECT_EQ(tokenizer_of(reopened.file().metadata()).sha256(), tokenizer.sha256());
    }
  EXPECT_EQ(count_entries(folder.path()), 1) << "no temporary is left";
}

TEST(Export, AFolderComesBackWithEveryWeight) {
  for (const ModelSpec& model : all_specs(false)) {
    const ScratchFolder folder;
    const RandomWeights weights(model, 4);
    export_hugging_face(model, tiny_tokenizer(model.vocabulary), weights, TensorType::kF32, folder / "hf");
    const HuggingFaceModel reopened(folder / "hf");
    EXPECT_EQ(reopened.spec(), model) << model.name;
    EXPECT_EQ(reopened.tensors(), tensors_of(model)) << model.name;
    std::vector<float> original, actual;
    for (const TensorInfo& tensor : reopened.tensors()) {
      original.resize(static_cast<std::size_t>(tensor.size())), actual.resize(original.size());
      weights.read(tensor.name, original);
      reopened.read(tensor.name, actual);
      EXPECT_EQ(actual, original) << model.name << " " << tensor.name;
    }
  }
}

TEST(Export, AnOrdinaryTokenThatEndsTextsStaysOrdinaryInAFolder) {
  const ScratchFolder folder;
  const ModelSpec model = test::tiny_spec("llama", false);
  Tokenizer::Parts parts = test::tiny_tokenizer(model.vocabulary).parts();
  parts.bos = 1, parts.eos = 2;  // as a config.json with the defaults of transformers' LlamaConfig says
  const Tokenizer tokenizer = Tokenizer::from_parts(parts);
  ASSERT_FALSE(tokenizer.is_special(2));
  export_hugging_face(model, tokenizer, RandomWeights(model, 4), TensorType::kF32, folder / "hf");
  const Tokenizer reopened = read_hugging_face_tokenizer(folder / "hf");
  EXPECT_FALSE(reopened.is_special(1) || reopened.is_special(2));
  EXPECT_EQ(reopened.eos(), 2);
  EXPECT_EQ(reopened.encode(tokenizer.decode(std::vector{3, 2, 3}), /*parse_special=*/true), (std::vector{3, 2, 3}));
}

TEST(Export, WithoutATypeEachTensorKeepsItsOwn) {
  const ScratchFolder folder;
  const ModelSpec model = test::tiny_spec("gpt2", true);
  const Tokenizer tokenizer = test::tiny_tokenizer(model.vocabulary);
  export_hugging_face(model, tokenizer, RandomWeights(model, 4), TensorType::kBf16, folder / "bf16");
  const ModelBundle bundle = open_hugging_face(folder / "bf16");
  const ExportReport report = export_gguf(bundle.spec, tokenizer, *bundle.source, std::nullopt, folder / "m.gguf");
  EXPECT_EQ(report.type, TensorType::kBf16);
  EXPECT_EQ(report.largest_difference, 0);
  EXPECT_EQ(report.tensor_types.size(), 2u) << "matrices in bf16, vectors in f32";
  const ExportReport quantized =
      export_gguf(model, tokenizer, RandomWeights(model, 4), TensorType::kQ8_0, folder / "q.gguf");
  const ModelBundle blocks = open_gguf(folder / "q.gguf");
  EXPECT_EQ(export_gguf(blocks.spec, tokenizer, *blocks.source, std::nullopt, folder / "q2.gguf").tensor_types,
            quantized.tensor_types);
  EXPECT_EQ(read_file(folder / "q2.gguf", Fault::kStorage), read_file(folder / "q.gguf", Fault::kStorage));
  expect_error(Fault::kConfig, "safetensors has no type q8_0",
               [&] { export_hugging_face(blocks.spec, tokenizer, *blocks.source, std::nullopt, folder / "q"); });
}

TEST(Export, LearnedPositionsAreNumbersInAFileOfBlocks) {
  const ScratchFolder folder;
  const ModelSpec model = tiny_spec("gpt2", true);
  export_gguf(model, tiny_tokenizer(model.vocabulary), RandomWeights(model, 4), TensorType::kQ8_0, folder / "m.gguf");
  const GgufFile file(folder / "m.gguf");
  EXPECT_EQ(file.at("position_embd.weight").type, static_cast<std::uint32_t>(TensorType::kF32));
  EXPECT_EQ(file.at("blk.1.attn_qkv.weight").type, static_cast<std::uint32_t>(TensorType::kQ8_0));
}

TEST(Export, WhatNoOtherProgramHasIsRefusedByName) {
  const ScratchFolder folder;
  const auto expect_refused = [&](const ModelSpec& model, const std::string& substring, bool gguf) {
    const RandomWeights weights(model, 4);
    const Tokenizer tokenizer = tiny_tokenizer(model.vocabulary);
    expect_error(Fault::kConfig, substring,
                 [&] { export_hugging_face(model, tokenizer, weights, TensorType::kF32, folder / "hf"); });
    if (!gguf) return;
    expect_error(Fault::kConfig, substring,
                 [&] { export_gguf(model, tokenizer, weights, TensorType::kF32, folder / "m.gguf"); });
  };
  ModelSpec mixed = tiny_spec("llama", true);
  mixed.blocks = "attention+swiglu,attention+gelu";
  expect_refused(mixed, "no other program has a llama with the blocks attention+swiglu,attention+gelu", /*gguf=*/true);
  ModelSpec biased = tiny_spec("llama", true);
  biased.qkv_bias = true;
  expect_refused(biased, "transformers has no llama with biases of q, k and v and without one of attention's output",
                 false);
  ModelSpec qwen2 = tiny_spec("qwen2", true), gpt2 = tiny_spec("gpt2", true);
  qwen2.output_bias = true, gpt2.output_bias = false;
  expect_refused(qwen2, "transformers has no qwen2 with biases of q, k and v and with one", false);
  expect_refused(gpt2, "no other program has a gpt2 without attention's biases; keep its checkpoints", /*gguf=*/true);
  EXPECT_EQ(count_entries(folder.path()), 0);
}

TEST(Export, RowsThatBreakABlockAreStoredAsF16AndListed) {
  const ScratchFolder folder;
  ModelSpec model = tiny_spec("llama", true);
  model.ffn = 100;
  const ExportReport report = export_gguf(model, tiny_tokenizer(model.vocabulary), RandomWeights(model, 4),
                                          TensorType::kQ8_0, folder / "m.gguf");
  ASSERT_EQ(report.fallbacks.size(), 2u);  // one of each layer
  EXPECT_EQ(report.fallbacks[1], "blk.1.ffn_down.weight: rows of 100 break blocks of 32, stored as f16");
  const GgufFile file(folder / "m.gguf");
  EXPECT_EQ(file.at("blk.1.ffn_down.weight").type, static_cast<std::uint32_t>(TensorType::kF16));
  EXPECT_EQ(file.at("blk.1.ffn_up.weight").type, static_cast<std::uint32_t>(TensorType::kQ8_0));
  EXPECT_EQ(file.at("output_norm.weight").type, static_cast<std::uint32_t>(TensorType::kF32));
}

TEST(Export, WeightsThatAFileCannotHoldAreNamed) {
  const ScratchFolder folder;
  const ModelSpec model = tiny_spec("llama", true);
  const Tokenizer tokenizer = tiny_tokenizer(model.vocabulary);
  RandomWeights weights(model, 4);
  weights.at("blk.1.ffn_up.weight")[96 * 3 + 5] = 1e5f;
  expect_error(Fault::kNumeric, "blk.1.ffn_up.weight[3, 5] is 100000, beyond the largest f16",
               [&] { export_gguf(model, tokenizer, weights, TensorType::kF16, folder / "m.gguf"); });
  export_gguf(model, tokenizer, weights, TensorType::kBf16, folder / "m.gguf");
  weights.at("blk.0.attn_q.weight")[0] = std::numeric_limits<float>::quiet_NaN();
  expect_error(Fault::kNumeric, "blk.0.attn_q.weight[0, 0] is nan",
               [&] { export_hugging_face(model, tokenizer, weights, TensorType::kF32, folder / "hf"); });
  EXPECT_EQ(count_entries(folder.path()), 1) << "only the good export is there";
}

TEST(GgufTokenizer, ACharacterTokenizerIsRefused) {
  const Tokenizer::Parts parts{.pre = PreTokenizer::kChar};
  GgufMetadata metadata;
  expect_error(Fault::kConfig, "character tokenizer", [&] { add_tokenizer(metadata, parts); });
}

TEST(Export, AFilledFolderAndWrongTypesAreRefusedBeforeAnythingIsWritten) {
  const ScratchFolder folder;
  ModelSpec model = tiny_spec("llama", true);
  const Tokenizer tokenizer = tiny_tokenizer(model.vocabulary);
  const RandomWeights weights(model, 4);
  atomic_write_file(folder / "mine", "x");
  expect_error(Fault::kConfig, "is not empty",
               [&] { export_hugging_face(model, tokenizer, weights, TensorType::kF32, folder.path()); });
  expect_error(Fault::kConfig, "is a file, expected a new or empty folder",
               [&] { export_hugging_face(model, tokenizer, weights, TensorType::kF32, folder / "mine"); });
  expect_error(Fault::kConfig, "safetensors has no type q4_0",
               [&] { export_hugging_face(model, tokenizer, weights, TensorType::kQ4_0, folder / "hf"); });
  expect_error(Fault::kStorage, "cannot create",
               [&] { export_gguf(model, tokenizer, weights, TensorType::kF32, folder / "no" / "m.gguf"); });
  EXPECT_EQ(count_entries(folder.path()), 1);
  std::filesystem::create_directory(folder / "empty");
  export_hugging_face(model, tokenizer, weights, TensorType::kBf16, folder / "empty");
  const HuggingFaceModel reopened(folder / "empty");
  EXPECT_EQ(reopened.spec(), model);
}

TEST(Export, AFullDiskLeavesTheOldFileAndNoPart) {
  const ScratchFolder folder;
  const ModelSpec model = tiny_spec("llama", true);
  const Tokenizer tokenizer = tiny_tokenizer(model.vocabulary);
  const RandomWeights weights(model, 4);
  atomic_write_file(folder / "m.gguf", "old");
  struct rlimit old_limit {};
  getrlimit(RLIMIT_FSIZE, &old_limit);
  signal(SIGXFSZ, SIG_IGN);  // so that the write fails with EFBIG, as it would with ENOSPC
  const struct rlimit tight_limit { .rlim_cur = 100'000, .rlim_max = old_limit.rlim_max };
  setrlimit(RLIMIT_FSIZE, &tight_limit);
  expect_error(Fault::kStorage, "cannot write",
               [&] { export_gguf(model, tokenizer, weights, TensorType::kF32, folder / "m.gguf"); });
  expect_error(Fault::kStorage, "cannot write",
               [&] { export_hugging_face(model, tokenizer, weights, TensorType::kF32, folder / "hf"); });
  setrlimit(RLIMIT_FSIZE, &old_limit);
  EXPECT_EQ(read_file(folder / "m.gguf", Fault::kStorage), "old");
  EXPECT_EQ(count_entries(folder.path()), 1);
}

TEST(GgufTokenizer, OnlyWhatASlipwayTokenizerCanBeIsRead) {
  GgufMetadata good;
  add_tokenizer(good, tiny_tokenizer(290).parts());
  const auto tokenizer_with = [&](const std::string& key, std::optional<GgufValue> value) {
    GgufMetadata data;
    for (const auto& [name, stored_value] : good)
      if (name != key) data.add(name, stored_value);
      else if (value) data.add(name, *value);
    tokenizer_of(data);
  };
  expect_error(Fault::kStorage, "of kind 'llama'",
               [&] { tokenizer_with("tokenizer.ggml.model", std::string("llama")); });
  expect_error(Fault::kStorage, "the pre-tokenizer is 'tekken'",
               [&] { tokenizer_with("tokenizer.ggml.pre", std::string("tekken")); });
  expect_error(Fault::kStorage, "merges is missing", [&] { tokenizer_with("tokenizer.ggml.merges", std::nullopt); });
  expect_error(Fault::kStorage, "is 290, but there are 290 tokens",
               [&] { tokenizer_with("tokenizer.ggml.eos_token_id", std::uint32_t{290}); });
  expect_error(Fault::kStorage, "only 1 token types",
               [&] { tokenizer_with("tokenizer.ggml.token_type", GgufArray(std::vector<std::int32_t>{1})); });
  expect_error(Fault::kStorage, "token 0 is of type 6, but a byte-level BPE has",
               [&] { tokenizer_with("tokenizer.ggml.token_type", GgufArray(std::vector<std::int32_t>(290, 6))); });
  expect_error(Fault::kStorage, "tokenizer.chat_template is not UTF-8",
               [&] { tokenizer_with("tokenizer.chat_template", std::string("\xff")); });
  expect_error(Fault::kStorage, "",
               [&] { tokenizer_with("tokenizer.ggml.merges", GgufArray(std::vector<std::string>{"zz zz"})); });
}

TEST(GgufTokenizer, EveryIdInTheMetadataIsWithinTheTokens) {
  for (const char* key : {"bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "cls", "mask", "fim_pre"}) {
    GgufMetadata data;
    for (const auto& [name, stored_value] : [] {
           GgufMetadata good;
           add_tokenizer(good, tiny_tokenizer(290).parts());
           return good;
         }())
      if (!name.ends_with(join(".", key, "_token_id"))) data.add(name, stored_value);
    data.add(join("tokenizer.ggml.", key, "_token_id"), std::uint32_t{290});
    expect_error(Fault::kStorage, join(key, "_token_id is 290, but there are 290 tokens"), [&] { tokenizer_of(data); });
  }
}

/// The tiny tokenizer with the last tokens of these kinds.
Tokenizer::Parts parts_of_every_kind() {
  Tokenizer::Parts parts = tiny_tokenizer(290).parts();
  for (const char* added : {"<think>", "<two words>", "[reserved]"}) parts.tokens.emplace_back(added);
  parts.user_defined = {290, 291};
  parts.unused = {292};
  parts.eot = 265, parts.eom = 266, parts.other_ends = {267};
  return parts;
}

TEST(GgufTokenizer, EveryKindOfTokenComesBackAsItsKind) {
  const Tokenizer original = Tokenizer::from_parts(parts_of_every_kind());
  GgufMetadata data;
  add_tokenizer(data, original.parts(), /*rows=*/296);
  EXPECT_EQ(data.texts("tokenizer.ggml.tokens").back(), "[PAD295]");
  std::vector<std::int64_t> types = data.integers("tokenizer.ggml.token_type");
  EXPECT_EQ((std::vector<std::int64_t>{types.begin() + 288, types.end()}),
            (std::vector<std::int64_t>{3, 3, 4, 4, 5, 5, 5, 5}));
  const Tokenizer actual = tokenizer_of(data);
  EXPECT_EQ(actual.sha256(), original.sha256()) << "the padding is no part of the tokenizer";
  EXPECT_EQ(actual.encode("a<think>b<two words>").size(), 4u);
}

TEST(Export, APaddedEmbeddingIsKeptInBothForms) {
  const ScratchFolder folder;
  ModelSpec model = tiny_spec("llama", false);
  const Tokenizer tokenizer = Tokenizer::from_parts(parts_of_every_kind());
  model.vocabulary = 320;
  const RandomWeights weights(model, 4);
  export_gguf(model, tokenizer, weights, TensorType::kF32, folder / "m.gguf");
  const ModelBundle bundle = open_gguf(folder / "m.gguf");
  EXPECT_EQ(bundle.spec.vocabulary, 320);
  EXPECT_EQ(bundle.tokenizer->sha256(), tokenizer.sha256());
  export_gguf(bundle.spec, *bundle.tokenizer, *bundle.source, TensorType::kF32, folder / "again.gguf");
  EXPECT_EQ(read_file(folder / "again.gguf", Fault::kStorage), read_file(folder / "m.gguf", Fault::kStorage));
  export_hugging_face(model, tokenizer, weights, TensorType::kF32, folder / "hf");
  EXPECT_EQ(HuggingFaceModel(folder / "hf").spec().vocabulary, 320);
  EXPECT_EQ(Tokenizer::load(folder / "hf" / "tokenizer.json").vocabulary_size(), 293);
  EXPECT_EQ(read_json(folder / "hf" / "generation_config.json", Fault::kStorage).at("eos_token_id"),
            Json({*tokenizer.eos(), 265, 266, 267}))
      << "transformers stops where Slipway does";
  EXPECT_EQ(read_hugging_face_tokenizer(folder / "hf").sha256(), tokenizer.sha256());
}

TEST(Export, AGgufOfLlama3sRopeScalingHasItsDivisorsAsATensor) {
  const ScratchFolder folder;
  ModelSpec model = tiny_spec("llama", true);
  model.rope_scaling = "llama3", model.rope_factor = 8, model.rope_original_context = 64;
  const RandomWeights weights(model, 4);
  export_gguf(model, tiny_tokenizer(model.vocabulary), weights, TensorType::kBf16, folder / "m.gguf");
  const GgufModel reopened(folder / "m.gguf");
  EXPECT_EQ(reopened.spec().rope_original_context, 64);
  std::vector<float> divisors(8);
  reopened.file().read(reopened.file().at("rope_freqs.weight"), divisors);
  EXPECT_EQ(divisors, model.rope_freq_factors());
}

TEST(Export, WhatLlamaCppDoesNotComputeIsRefusedForAGguf) {
  const ScratchFolder folder;
  const auto expect_refused = [&](const ModelSpec& model, const std::string& substring) {
    const RandomWeights weights(model, 4);
    expect_error(Fault::kConfig, substring, [&] {
      export_gguf(model, tiny_tokenizer(model.vocabulary), weights, TensorType::kF32, folder / "m.gguf");
    });
  };
  for (const char* architecture : {"qwen2", "qwen3"}) {
    ModelSpec scaled = tiny_spec(architecture, true), biased = tiny_spec(architecture, true);
    scaled.rope_scaling = "llama3", scaled.rope_factor = 8;
    expect_refused(scaled, join("llama.cpp has no ", architecture, " with llama3's RoPE scaling; export to a folder"));
    biased.qkv_bias = biased.output_bias = true;
    expect_refused(biased,
                   join("llama.cpp has no ", architecture, " with a bias of attention's output; export to a folder"));
  }
  EXPECT_EQ(count_entries(folder.path()), 0);
}

TEST(Export, TextsOfAGgufThatAreNotUtf8AreNamedOnOpening) {
  const ScratchFolder folder;
  ModelSpec model = tiny_spec("llama", false);
  const Tokenizer tokenizer = tiny_tokenizer(model.vocabulary);
  model.name = "a\xff";
  export_gguf(model, tokenizer, RandomWeights(model, 4), TensorType::kF32, folder / "m.gguf");
  expect_error(Fault::kStorage, "the key general.name is not UTF-8", [&] { open_gguf(folder / "m.gguf"); });
  model.name = "a";
  model.provenance["license"] = "\xff";
  export_gguf(model, tokenizer, RandomWeights(model, 4), TensorType::kF32, folder / "m.gguf");
  expect_error(Fault::kStorage, "the key slipway.license is not UTF-8", [&] { open_gguf(folder / "m.gguf"); });

  atomic_write_file(folder / "lfs.gguf", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
  expect_error(Fault::kStorage, "fetch the file with git lfs pull", [&] { open_gguf(folder / "lfs.gguf"); });
}

TEST(GgufTokenizer, WhatGgufHasNoKeyForComesBackToo) {
  Tokenizer::Parts parts = tiny_tokenizer(290).parts();
  parts.bos.reset();
  parts.nfc = true;
  parts.normalized = {270};
  GgufMetadata data;
  add_tokenizer(data, parts);
  const Tokenizer::Parts actual = tokenizer_parts(data);
  EXPECT_EQ(actual.bos, std::nullopt);
  EXPECT_TRUE(actual.nfc);
  EXPECT_EQ(actual.normalized, parts.normalized);
  EXPECT_EQ(data.integer("tokenizer.ggml.bos_token_id"), *parts.eos) << "llama.cpp would take token 11";
}

}  // namespace
}  // namespace slipway
