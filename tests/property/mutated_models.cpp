// Mutated model files and tokenizers, read as the program reads them. Each case ends in a result or in an error of a
// documented kind, soon, and within memory that its files' size bounds (SECURITY.md).
#include <gtest/gtest.h>

#include <optional>

#include "comm/group.hpp"
#include "io/checkpoint/checkpoint.hpp"
#include "io/model/model_spec_json.hpp"
#include "io/model/safetensors.hpp"
#include "launch/commands/command.hpp"
#include "launch/run_folder/fork.hpp"
#include "launch/run_folder/saved_config.hpp"
#include "src/config/run_config.hpp"
#include "src/core/file.hpp"
#include "src/core/hash.hpp"
#include "src/data/lanes.hpp"
#include "src/data/loader.hpp"
#include "src/data/prepare.hpp"
#include "src/data/text_source.hpp"
#include "src/eval/policy.hpp"
#include "src/export/export.hpp"
#include "src/infer/loaded_model.hpp"
#include "src/infer/session.hpp"
#include "src/optim/reduction_slots.hpp"
#include "tests/support/checkpoint_state.hpp"
#include "tests/support/fuzz.hpp"
#include "tests/support/mutated_files.hpp"
#include "tests/support/random_model.hpp"
#include "tests/support/tiny_tokenizer.hpp"

namespace slipway::test {
namespace {

// GGUF

/// Where a good GGUF holds its integers; of long arrays the first and the last.
BinaryLayout gguf_layout(const std::string& bytes) {
  BinaryLayout layout;
  std::size_t at = 4;
  const auto field = [&](std::size_t width) {
    layout.fields.push_back({at, width});
    at += width;
    return get_field(bytes, layout.fields.back());
  };
  const auto text = [&] {
    const std::uint64_t length = field(8);
    at += length;
  };
  field(4);
  const std::uint64_t tensors = field(8), pairs = field(8);
  const Field tensor_count{8, 8}, pair_count{16, 8};
  constexpr std::size_t kWidths[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  for (std::uint64_t i = 0; i < pairs; ++i) {
    const std::size_t begin = at;
    text();
    const std::uint64_t type = field(4);
    if (type == 8) {
      text();
    } else if (type == 9) {
      const std::uint64_t of = field(4), count = field(8);
      for (std::uint64_t j = 0; j < count; ++j) {
        const std::size_t before = layout.fields.size();
        if (of == 8) text();
        else field(kWidths[of]);
        if (j >= 4 && j + 1 < count) layout.fields.resize(before);
      }
    } else {
      field(kWidths[type]);
    }
    layout.records.push_back({begin, at, pair_count});
  }
  for (std::uint64_t i = 0; i < tensors; ++i) {
    const std::size_t begin = at;
    text();
    const std::uint64_t axes = field(4);
    for (std::uint64_t d = 0; d < axes; ++d) field(8);
    field(4), field(8);
    layout.records.push_back({begin, at, tensor_count});
  }
  return layout;
}

/// Many small elements: the files that need the most memory per byte.
void add_many_pairs(std::string& bytes, FuzzRng& rng) {
  constexpr std::size_t kPairs = 20'000;
  const bool strings = rng.one_in(2);
  std::string more;
  for (std::size_t i = 0; i < kPairs; ++i) {
    const std::string key = join("k", i);
    std::string pair(8, '\0');
    set_field(pair, {0, 8}, key.size());
    pair += key;
    pair += std::string({static_cast<char>(strings ? 8 : 0), 0, 0, 0}) + std::string(strings ? 8 : 1, '\0');
    more += pair;
  }
  set_field(bytes, {16, 8}, get_field(bytes, {16, 8}) + kPairs);
  bytes.insert(std::min<std::size_t>(24, bytes.size()), more);
}

TEST(MutatedFilesTest, Gguf) {
  struct GgufFixture {
    std::string bytes;
    BinaryLayout structure;
  };
  static const std::vector<GgufFixture> valid_files = [] {
    std::vector<GgufFixture> all;
    const auto make = [&](const char* architecture, TensorType type, PreTokenizer pre) {
      const ModelSpec model = small_spec(architecture, all.size() % 2 == 0);
      const fs::path path = fixture_folder() / "made.gguf";
      fs::remove(path);
      export_gguf(model, tiny_tokenizer(kVocabulary, pre), RandomWeights(model, 3), type, path);
      std::string bytes = read_file(path, Fault::kStorage);
      all.push_back({bytes, gguf_layout(bytes)});
    };
    make("llama", TensorType::kF32, PreTokenizer::kGpt2);
    make("llama", TensorType::kQ8_0, PreTokenizer::kLlamaBpe);
    make("qwen3", TensorType::kQ8_0, PreTokenizer::kQwen2);
    make("qwen2", TensorType::kQ4_0, PreTokenizer::kQwen2);
    make("qwen3", TensorType::kBf16, PreTokenizer::kSmollm);
    make("gpt2", TensorType::kQ8_0, PreTokenizer::kGpt2);
    return all;
  }();
  std::size_t which = 0;
  run_mutations({.name = "gguf",
                 .make_valid =
                     [&](FuzzRng& rng) {
                       return Files{{"m.gguf", valid_files[which = rng.below(valid_files.size())].bytes}};
                     },
                 .mutate =
                     [&](Files& files, FuzzRng& rng) {
                       if (rng.one_in(100)) add_many_pairs(files["m.gguf"], rng);
                       else mutate_structure(files["m.gguf"], valid_files[which].structure, rng);
                     },
                 .readers = {{"generate", [](const fs::path& folder) {
                                predict_one_token(load_model((folder / "m.gguf").string(), one_thread()));
                              }}}});
}

// safetensors with config.json and a tokenizer: a Hugging Face folder

void mutate_safetensors(std::string& bytes, FuzzRng& rng) {
  std::uint64_t length = get_field(bytes, {0, 8});
  if (rng.one_in(3) || length > bytes.size() - std::min<std::size_t>(8, bytes.size())) {
    const BinaryLayout layout{{{0, 8}}, {}};
    return mutate_structure(bytes, layout, rng);
  }
  std::string header = bytes.substr(8, length);
  mutate_json(header, rng);
  header.resize((header.size() + 7) / 8 * 8, ' ');
  bytes.replace(8, length, header);
  set_field(bytes, {0, 8}, header.size());
}

/// The folder again with its weights in two shards and an index, and with the files that others write beside them.
Files in_shards(const fs::path& folder) {
  {
    const SafetensorsFile whole(folder / "model.safetensors");
    Json map = Json::object();
    for (const std::size_t shard : {0, 1}) {
      std::vector<SafeTensor> plan;
      for (std::size_t i = shard; i < whole.tensors().size(); i += 2) {
        plan.push_back(whole.tensors()[i]);
        map[plan.back().tensor.name] = join("s", shard, ".safetensors");
      }
      write_safetensors(folder / join("s", shard, ".safetensors"), {{"format", "pt"}}, plan,
                        [&](std::size_t i, const ByteSink& sink) { sink(whole.bytes(plan[i])); });
    }
    atomic_write_file(folder / "model.safetensors.index.json",
                      to_line({{"metadata", Json::object()}, {"weight_map", map}}));
  }
  fs::remove(folder / "model.safetensors");
  atomic_write_file(folder / "special_tokens_map.json",
                    R"({"eos_token": {"content": "<|endoftext|>", "lstrip": false}})");
  atomic_write_file(folder / "generation_config.json", R"({"eos_token_id": [264, 265, 266, 267, 268]})");
  return read_files(folder);
}

TEST(MutatedFilesTest, HuggingFaceFolder) {
  static const std::vector<Files> valid_files = [] {
    std::vector<Files> all;
    for (const char* architecture : {"llama", "qwen2", "gpt2", "qwen3"}) {
      const ModelSpec model = small_spec(architecture, all.empty());
      const fs::path path = fixture_folder() / "made-hf";
      fs::remove_all(path);
      export_hugging_face(model, tiny_tokenizer(kVocabulary, PreTokenizer::kQwen2), RandomWeights(model, 3),
                          all.empty() ? TensorType::kF32 : TensorType::kBf16, path);
      all.push_back(read_files(path));
      if (all.size() == 4) all.push_back(in_shards(path));
    }
    return all;
  }();
  run_mutations(
      {.name = "hugging_face",
       .make_valid = [](FuzzRng& rng) { return rng.pick(valid_files); },
       .mutate =
           [](Files& files, FuzzRng& rng) {
             switch (rng.below(7)) {
               case 5: return mutate_one(files, "generation_config.json", [&](auto& text) { mutate_json(text, rng); });
               case 6: {
                 const bool map = rng.one_in(4);
                 mutate_one(files, map ? "special_tokens_map.json" : "model.safetensors.index.json",
                            [&](auto& text) { mutate_json(text, rng); });
                 return mutate_one(files, "s1.safetensors", [&](auto& bytes) {
                   if (rng.one_in(3)) mutate_safetensors(bytes, rng);
                 });
               }
               case 0: return mutate_one(files, "config.json", [&](auto& text) { mutate_json(text, rng); });
               case 1: return mutate_one(files, "tokenizer.json", [&](auto& text) { mutate_json(text, rng); });
               case 2: return mutate_one(files, "tokenizer_config.json", [&](auto& text) { mutate_json(text, rng); });
               default:
                 return mutate_one(files, "model.safetensors", [&](auto& bytes) { mutate_safetensors(bytes, rng); });
             }
           },
       .readers = {{"open", [](const fs::path& folder) {
                      predict_one_token(LoadedModel(open_hugging_face(folder), one_thread()));
                    }}}});
}

// tokenizer.json

/// Many small things, as with add_many_pairs().
void add_many_tokens(std::string& text, FuzzRng& rng) {
  constexpr int kTokens = 20'000;
  if (json_depth(text) > kMaxJsonDepth) return;
  SortedJson json = SortedJson::parse(text, nullptr, false);
  if (!json.is_object() || !json["model"].is_object() || !json["model"]["vocab"].is_object()) return;
  SortedJson& vocabulary = json["model"]["vocab"];
  int next = 0;  // behind the highest id
  const auto pass = [&](const SortedJson& id) {
    if (id.is_number_integer() && id.get<int>() < kVocabulary) next = std::max(next, id.get<int>() + 1);
  };
  for (const SortedJson& id : vocabulary) pass(id);
  for (const SortedJson& token : json["added_tokens"])
    if (token.is_object() && token.contains("id")) pass(token["id"]);
  for (int i = 0; i < kTokens; ++i) vocabulary[join("q", i)] = next++;
  if (rng.one_in(2) && json["model"]["merges"].is_array())
    for (int i = 0; i < kTokens; ++i) json["model"]["merges"].push_back("t h");
  text = json.dump();
}

TEST(MutatedFilesTest, Tokenizer) {
  static const std::vector<Files> valid_files = [] {
    std::vector<Files> all;
    for (const PreTokenizer pre :
         {PreTokenizer::kGpt2, PreTokenizer::kLlamaBpe, PreTokenizer::kQwen2, PreTokenizer::kSmollm}) {
      Tokenizer::Parts parts = tiny_tokenizer(kVocabulary, pre).parts();
      parts.add_bos = pre == PreTokenizer::kLlamaBpe;
      parts.nfc = pre == PreTokenizer::kQwen2;
      parts.user_defined = {parts.special_tokens.back()};
      parts.special_tokens.pop_back();
      all.push_back({{"tokenizer.json", Tokenizer::from_parts(parts).to_json()},
                     {"tokenizer_config.json",
                      R"({"bos_token":"<|endoftext|>","eos_token":{"content":"<|endoftext|>","lstrip":false},)"
                      R"("chat_template":[{"name":"default","template":"{{ messages }}"}],"model_max_length":512})"},
                     {"chat_template.jinja", "{% for m in messages %}{{ m }}{% endfor %}"}});
    }
    TokenizerConfig config{.vocabulary = 60, .pre = "char", .min_frequency = 1};
    const std::vector<std::string_view> texts = {"the cat saw 12 d\xc3\xb6gs"};
    all.push_back({{"tokenizer.json", train_tokenizer(config, texts, 1).to_json()}});
    return all;
  }();
  run_mutations(
      {.name = "tokenizer",
       .make_valid = [](FuzzRng& rng) { return rng.pick(valid_files); },
       .mutate =
           [](Files& files, FuzzRng& rng) {
             auto file = files.begin();
             if (!rng.one_in(3)) file = files.find("tokenizer.json");
             else std::advance(file, static_cast<std::ptrdiff_t>(rng.below(files.size())));
             if (file->first == "tokenizer.json" && rng.one_in(100)) add_many_tokens(file->second, rng);
             else if (file->first.ends_with(".json")) mutate_json(file->second, rng);
             else mutate_bytes(file->second, rng);
           },
       .readers =
           {{"encode, decode",
             [](const fs::path& folder) {
               const Tokenizer tokenizer = Tokenizer::load(folder / "tokenizer.json");
               for (const bool special : {false, true})
                 tokenizer.decode(tokenizer.encode(
                     "The cat's in 1234 caf\xc3\xa9s,\xff\n\n  e\xcc\x81t\xe4\xb8\xad\xe6\x96\x87 <|endoftext|>!",
                     special));
               Tokenizer::from_json(tokenizer.to_json(), "the same again");
             }}},
       .case_divisor = 4});
}

}  // namespace
}  // namespace slipway::test
