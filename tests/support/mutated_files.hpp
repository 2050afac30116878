// Shared by the tests of mutated files: small models, a folder for files that are made once, and the use of a model.
//
// SLIPWAY_MUTATIONS       cases for each format (60), fewer for slow formats
// SLIPWAY_MUTATIONS_FROM  seed of the first case (0)
// SLIPWAY_MUTATION        run only this seed
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "src/core/file.hpp"
#include "src/core/hash.hpp"
#include "src/core/json.hpp"
#include "src/data/prepare.hpp"
#include "src/data/text_source.hpp"
#include "src/infer/loaded_model.hpp"
#include "src/infer/session.hpp"
#include "tests/support/fuzz.hpp"
#include "tests/support/random_model.hpp"
#include "tests/support/tiny_tokenizer.hpp"

namespace slipway::test {

namespace fs = std::filesystem;

inline constexpr int kVocabulary = 280;

using SortedJson = nlohmann::json;  // Json looks a key up from front to back

/// A folder for files that tests make once.
struct FixtureFolder {
  fs::path path = fs::temp_directory_path() / join("slipway-mutations-made-", ::getpid());
  FixtureFolder() { fs::create_directories(path); }
  ~FixtureFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};
inline const fs::path& fixture_folder() {
  static const FixtureFolder instance;
  return instance.path;
}

/// Smaller than tiny_spec(), since thousands of models are read.
inline ModelSpec small_spec(const std::string& architecture, bool tied) {
  ModelSpec model = tiny_spec(architecture, tied);
  model.kv_heads = model.kv_heads == model.heads ? 2 : 1;  // gpt2 has as many as heads
  model.layers = 1, model.width = 32, model.heads = 2, model.head_width = 16, model.ffn = 32;
  model.vocabulary = kVocabulary + 8, model.context = 32;
  return model;
}

inline LoadOptions one_thread() { return {.threads = 1}; }

/// Loads the model's weights and predicts one token.
inline void predict_one_token(LoadedModel model) {
  std::vector<int> ids = model.tokenizer().encode("The cat saw 12 dogs.\n<|endoftext|>", true);
  ids.resize(1);
  Session session(model.model(), 1, 4);
  session.decode(ids);
  ASSERT_EQ(std::ssize(session.logits()), model.spec().vocabulary);
  model.tokenizer().decode(ids);
}

template <class Mutate>
void mutate_one(Files& files, const std::string& name, Mutate&& mutate) {
  if (const auto found = files.find(name); found != files.end()) mutate(found->second);
}

inline void seal_manifest(Files& files, const std::string& folder, const std::string& ending) {
  files[folder + "manifest.sha256"] = sha256_hex(files[folder + "manifest.json"]) + ending;
}

/// A data folder of two lanes, small enough to be read thousands of times.
inline const Files& data_folder_files() {
  static const Files valid_files = [] {
    const fs::path texts = fixture_folder() / "texts.jsonl", path = fixture_folder() / "data";
    std::string rows;
    for (int i = 0; i < 40; ++i)
      rows += to_line({{"text", join("the cat number ", i, " saw ", i * i, " dogs in the garden")},
                       {"lane", i % 3 == 0 ? "code" : "text"},
                       {"license", i % 2 == 0 ? "MIT" : "CC0-1.0"}}) +
              "\n";
    atomic_write_file(texts, rows);
    fs::remove_all(path);
    prepare_corpus({.paths = {texts.string()}}, {.validation_fraction = 0.3, .threads = 1}, tiny_tokenizer(kVocabulary),
                   path);
    return read_files(path);
  }();
  return valid_files;
}

}  // namespace slipway::test
