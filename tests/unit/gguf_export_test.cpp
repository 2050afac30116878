// Exports as they are written, reopened and refused. What others read of them: tests/foreign/*_oracle.py,
// llama_logits.py.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <limits>

#include "io/gguf_model.hpp"
#include "io/safetensors_model.hpp"
#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/data/gguf_tokenizer.hpp"
#include "src/export/export.hpp"
#include "src/infer/loaded_model.hpp"
#include "tests/support/core_files.hpp"
#include "tests/support/random_model.hpp"
#include "tests/support/tiny_tokenizer.hpp"

namespace slipway {
namespace {

using test::RandomWeights;
using test::tiny_description;
using test::tiny_tokenizer;

std::ptrdiff_t entries(const std::filesystem::path& folder) {
  return std::distance(std::filesystem::directory_iterator(folder), {});
}

TEST(Export, AGgufComesBackWithDescriptionTokenizerAndStoredWeights) {
  const ScratchFolder folder;
  for (const char* architecture : {"llama", "qwen2", "qwen3"})
    for (const TensorType type : {TensorType::kF32, TensorType::kBf16, TensorType::kQ4_0}) {
      const ModelDescription model = tiny_description(architecture, type == TensorType::kF32);
      const Tokenizer tokenizer = tiny_tokenizer(model.vocabulary, PreTokenizer::kQwen2);
      const ExportReport report = export_gguf(model, tokenizer, RandomWeights(model, 4), type, folder / "m.gguf");
      EXPECT_EQ(report.bytes, std::filesystem::file_size(folder / "m.gguf"));
      EXPECT_EQ(report.largest_difference == 0.0, type == TensorType::kF32);
      const GgufModel reopened(folder / "m.gguf");
      EXPECT_EQ(static_cast<int>(reopened.tensors().size()), report.tensors);
      EXPECT_EQ(tokenizer_of(reopened.file().metadata()).sha256(), tokenizer.sha256());
    }
  EXPECT_EQ(entries(folder.path()), 1) << "no temporary is left";
}

TEST(Export, RowsThatBreakABlockAreStoredAsF16AndListed) {
  const ScratchFolder folder;
  ModelDescription model = tiny_description("llama", true);
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
  const ModelDescription model = tiny_description("llama", true);
  const Tokenizer tokenizer = tiny_tokenizer(model.vocabulary);
  RandomWeights weights(model, 4);
  weights.at("blk.1.ffn_up.weight")[96 * 3 + 5] = 1e5f;
  expect_error(Fault::kNumeric, "blk.1.ffn_up.weight[3, 5] is 100000, beyond the largest f16",
               [&] { export_gguf(model, tokenizer, weights, TensorType::kF16, folder / "m.gguf"); });
  export_gguf(model, tokenizer, weights, TensorType::kBf16, folder / "m.gguf");
  weights.at("blk.0.attn_q.weight")[0] = std::numeric_limits<float>::quiet_NaN();
  expect_error(Fault::kNumeric, "blk.0.attn_q.weight[0, 0] is nan",
               [&] { export_hugging_face(model, tokenizer, weights, TensorType::kF32, folder / "hf"); });
  EXPECT_EQ(entries(folder.path()), 1) << "only the good export is there";
}

TEST(GgufTokenizer, ACharacterTokenizerIsRefused) {
  const Tokenizer::Parts parts{.pre = PreTokenizer::kChar};
  GgufMetadata metadata;
  expect_error(Fault::kConfig, "character tokenizer", [&] { add_tokenizer(metadata, parts); });
}

TEST(Export, AFilledFolderAndWrongTypesAreRefusedBeforeAnythingIsWritten) {
  const ScratchFolder folder;
  ModelDescription model = tiny_description("llama", true);
  const Tokenizer tokenizer = tiny_tokenizer(model.vocabulary);
  const RandomWeights weights(model, 4);
  replace_file(folder / "mine", "x");
  expect_error(Fault::kConfig, "is not empty",
               [&] { export_hugging_face(model, tokenizer, weights, TensorType::kF32, folder.path()); });
  expect_error(Fault::kConfig, "is a file, expected a new or empty folder",
               [&] { export_hugging_face(model, tokenizer, weights, TensorType::kF32, folder / "mine"); });
  expect_error(Fault::kConfig, "safetensors has no type q4_0",
               [&] { export_hugging_face(model, tokenizer, weights, TensorType::kQ4_0, folder / "hf"); });
  expect_error(Fault::kStorage, "cannot create",
               [&] { export_gguf(model, tokenizer, weights, TensorType::kF32, folder / "no" / "m.gguf"); });
  EXPECT_EQ(entries(folder.path()), 1);
  std::filesystem::create_directory(folder / "empty");
  export_hugging_face(model, tokenizer, weights, TensorType::kBf16, folder / "empty");
  const HuggingFaceModel reopened(folder / "empty");
  EXPECT_EQ(reopened.description(), model);
}

TEST(Export, AFullDiskLeavesTheOldFileAndNoPart) {
  const ScratchFolder folder;
  const ModelDescription model = tiny_description("llama", true);
  const Tokenizer tokenizer = tiny_tokenizer(model.vocabulary);
  const RandomWeights weights(model, 4);
  replace_file(folder / "m.gguf", "old");
  struct rlimit before {};
  getrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, SIG_IGN);  // so that the write fails with EFBIG, as it would with ENOSPC
  const struct rlimit small { .rlim_cur = 100'000, .rlim_max = before.rlim_max };
  setrlimit(RLIMIT_FSIZE, &small);
  expect_error(Fault::kStorage, "cannot write",
               [&] { export_gguf(model, tokenizer, weights, TensorType::kF32, folder / "m.gguf"); });
  expect_error(Fault::kStorage, "cannot write",
               [&] { export_hugging_face(model, tokenizer, weights, TensorType::kF32, folder / "hf"); });
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(read_file(folder / "m.gguf", Fault::kStorage), "old");
  EXPECT_EQ(entries(folder.path()), 1);
}

TEST(GgufTokenizer, OnlyWhatASlipwayTokenizerCanBeIsRead) {
  GgufMetadata good;
  add_tokenizer(good, tiny_tokenizer(290).parts());
  const auto with = [&](const std::string& key, std::optional<GgufValue> value) {
    GgufMetadata data;
    for (const auto& [name, held] : good)
      if (name != key) data.add(name, held);
      else if (value) data.add(name, *value);
    tokenizer_of(data);
  };
  expect_error(Fault::kStorage, "of kind 'llama'", [&] { with("tokenizer.ggml.model", std::string("llama")); });
  expect_error(Fault::kStorage, "the pre-tokenizer is 'tekken'",
               [&] { with("tokenizer.ggml.pre", std::string("tekken")); });
  expect_error(Fault::kStorage, "merges is missing", [&] { with("tokenizer.ggml.merges", std::nullopt); });
  expect_error(Fault::kStorage, "is 290, but there are 290 tokens",
               [&] { with("tokenizer.ggml.eos_token_id", std::uint32_t{290}); });
  expect_error(Fault::kStorage, "only 1 token types",
               [&] { with("tokenizer.ggml.token_type", GgufArray(std::vector<std::int32_t>{1})); });
  expect_error(Fault::kStorage, "token 0 is of type 6, but a byte-level BPE has",
               [&] { with("tokenizer.ggml.token_type", GgufArray(std::vector<std::int32_t>(290, 6))); });
  expect_error(Fault::kStorage, "tokenizer.chat_template is not UTF-8",
               [&] { with("tokenizer.chat_template", std::string("\xff")); });
  expect_error(Fault::kStorage, "",
               [&] { with("tokenizer.ggml.merges", GgufArray(std::vector<std::string>{"zz zz"})); });
}

TEST(GgufTokenizer, EveryIdInTheMetadataIsWithinTheTokens) {
  for (const char* key : {"bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "cls", "mask", "fim_pre"}) {
    GgufMetadata data;
    for (const auto& [name, held] : [] {
           GgufMetadata good;
           add_tokenizer(good, tiny_tokenizer(290).parts());
           return good;
         }())
      if (!name.ends_with(join(".", key, "_token_id"))) data.add(name, held);
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
  parts.eot = 265, parts.eom = 266;
  return parts;
}

TEST(GgufTokenizer, EveryKindOfTokenComesBackAsItsKind) {
  const Tokenizer given = Tokenizer::from_parts(parts_of_every_kind());
  GgufMetadata data;
  add_tokenizer(data, given.parts(), /*rows=*/296);
  EXPECT_EQ(data.texts("tokenizer.ggml.tokens").back(), "[PAD295]");
  std::vector<std::int64_t> types = data.integers("tokenizer.ggml.token_type");
  EXPECT_EQ((std::vector<std::int64_t>{types.begin() + 288, types.end()}),
            (std::vector<std::int64_t>{3, 3, 4, 4, 5, 5, 5, 5}));
  const Tokenizer found = tokenizer_of(data);
  EXPECT_EQ(found.sha256(), given.sha256()) << "the padding is no part of the tokenizer";
  EXPECT_EQ(found.encode("a<think>b<two words>").size(), 4u);
}

TEST(Export, APaddedEmbeddingIsKeptInBothForms) {
  const ScratchFolder folder;
  ModelDescription model = tiny_description("llama", false);
  const Tokenizer tokenizer = Tokenizer::from_parts(parts_of_every_kind());
  model.vocabulary = 320;
  const RandomWeights weights(model, 4);
  export_gguf(model, tokenizer, weights, TensorType::kF32, folder / "m.gguf");
  const ModelBundle files = open_gguf(folder / "m.gguf");
  EXPECT_EQ(files.description.vocabulary, 320);
  EXPECT_EQ(files.tokenizer->sha256(), tokenizer.sha256());
  export_gguf(files.description, *files.tokenizer, *files.source, TensorType::kF32, folder / "again.gguf");
  EXPECT_EQ(read_file(folder / "again.gguf", Fault::kStorage), read_file(folder / "m.gguf", Fault::kStorage));
  export_hugging_face(model, tokenizer, weights, TensorType::kF32, folder / "hf");
  EXPECT_EQ(HuggingFaceModel(folder / "hf").description().vocabulary, 320);
  EXPECT_EQ(Tokenizer::load(folder / "hf" / "tokenizer.json").vocabulary(), 293);
  EXPECT_EQ(read_json(folder / "hf" / "generation_config.json", Fault::kStorage).at("eos_token_id"),
            Json({*tokenizer.eos(), 265, 266}))
      << "transformers stops where Slipway does";
}

TEST(Export, TextsOfAGgufThatAreNotUtf8AreNamedOnOpening) {
  const ScratchFolder folder;
  ModelDescription model = tiny_description("llama", false);
  const Tokenizer tokenizer = tiny_tokenizer(model.vocabulary);
  model.name = "a\xff";
  export_gguf(model, tokenizer, RandomWeights(model, 4), TensorType::kF32, folder / "m.gguf");
  expect_error(Fault::kStorage, "the key general.name is not UTF-8", [&] { open_gguf(folder / "m.gguf"); });
  model.name = "a";
  model.provenance["license"] = "\xff";
  export_gguf(model, tokenizer, RandomWeights(model, 4), TensorType::kF32, folder / "m.gguf");
  expect_error(Fault::kStorage, "the key slipway.license is not UTF-8", [&] { open_gguf(folder / "m.gguf"); });

  replace_file(folder / "lfs.gguf", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
  expect_error(Fault::kStorage, "fetch the file with git lfs pull", [&] { open_gguf(folder / "lfs.gguf"); });
}

TEST(GgufTokenizer, WhatGgufHasNoKeyForComesBackToo) {
  Tokenizer::Parts parts = tiny_tokenizer(290).parts();
  parts.bos.reset();
  parts.nfc = true;
  parts.normalized = {270};
  GgufMetadata data;
  add_tokenizer(data, parts);
  const Tokenizer::Parts found = tokenizer_parts(data);
  EXPECT_EQ(found.bos, std::nullopt);
  EXPECT_TRUE(found.nfc);
  EXPECT_EQ(found.normalized, parts.normalized);
  EXPECT_EQ(data.integer("tokenizer.ggml.bos_token_id"), *parts.eos) << "llama.cpp would take token 11";
}

}  // namespace
}  // namespace slipway
