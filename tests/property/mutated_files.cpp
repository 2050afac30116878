// Files that nobody wrote: every format that the program reads, mutated and read as the program reads it. Each case must
// end in a result or in an error of a documented kind, soon, and within memory that its files' size bounds (SECURITY.md).
//
// SLIPWAY_MUTATIONS       cases for each format (100)
// SLIPWAY_MUTATIONS_FROM  the first one's seed (0)
// SLIPWAY_MUTATION        one seed alone
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <optional>

#include "comm/group.hpp"
#include "comm/world.hpp"
#include "io/checkpoint.hpp"
#include "io/safetensors_model.hpp"
#include "launch/command.hpp"
#include "launch/fork.hpp"
#include "launch/run_config.hpp"
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
#include "src/model/description_json.hpp"
#include "src/train/config.hpp"
#include "src/train/slots.hpp"
#include "tests/support/checkpoint_state.hpp"
#include "tests/support/fuzz.hpp"
#include "tests/support/random_model.hpp"
#include "tests/support/tiny_tokenizer.hpp"

namespace slipway::test {
namespace {

namespace fs = std::filesystem;

constexpr int kVocabulary = 280;

/// A folder for what tests make once.
struct Workshop {
  fs::path path = fs::temp_directory_path() / join("slipway-mutations-made-", ::getpid());
  Workshop() { fs::create_directories(path); }
  ~Workshop() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};
const fs::path& workshop() {
  static const Workshop instance;
  return instance.path;
}

/// Smaller than tiny_description(): thousands are read.
ModelDescription small_description(const std::string& architecture, bool tied) {
  ModelDescription model = tiny_description(architecture, tied);
  model.layers = 1, model.width = 32, model.heads = 2, model.kv_heads = 1, model.head_width = 16, model.ffn = 32;
  model.vocabulary = kVocabulary + 8, model.context = 32;
  return model;
}

LoadOptions one_thread() { return {.threads = 1}; }

/// What every model is for.
void predict_one_token(LoadedModel model) {
  std::vector<int> ids = model.tokenizer().encode("The cat saw 12 dogs.\n<|endoftext|>", true);
  ids.resize(1);
  Session session(model.model(), 1, 4);
  session.read(ids);
  ASSERT_EQ(std::ssize(session.logits()), model.description().vocabulary);
  model.tokenizer().decode(ids);
}

template <class Mutate>
void mutate_one(Files& files, const std::string& name, Mutate&& mutate) {
  if (const auto found = files.find(name); found != files.end()) mutate(found->second);
}

// GGUF

/// Where a good GGUF holds its integers; of long arrays the first and the last.
Structure structure_of_gguf(const std::string& bytes) {
  Structure known;
  std::size_t at = 4;
  const auto field = [&](std::size_t width) {
    known.fields.push_back({at, width});
    at += width;
    return get_field(bytes, known.fields.back());
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
        const std::size_t before = known.fields.size();
        if (of == 8) text();
        else field(kWidths[of]);
        if (j >= 4 && j + 1 < count) known.fields.resize(before);
      }
    } else {
      field(kWidths[type]);
    }
    known.records.push_back({begin, at, pair_count});
  }
  for (std::uint64_t i = 0; i < tensors; ++i) {
    const std::size_t begin = at;
    text();
    const std::uint64_t axes = field(4);
    for (std::uint64_t d = 0; d < axes; ++d) field(8);
    field(4), field(8);
    known.records.push_back({begin, at, tensor_count});
  }
  return known;
}

TEST(MutatedFilesTest, Gguf) {
  struct Made {
    std::string bytes;
    Structure structure;
  };
  static const std::vector<Made> made = [] {
    std::vector<Made> all;
    const auto make = [&](const char* architecture, TensorType type, PreTokenizer pre) {
      const ModelDescription model = small_description(architecture, all.size() % 2 == 0);
      const fs::path path = workshop() / "made.gguf";
      fs::remove(path);
      export_gguf(model, tiny_tokenizer(kVocabulary, pre), RandomWeights(model, 3), type, path);
      std::string bytes = read_file(path, Fault::kStorage);
      all.push_back({bytes, structure_of_gguf(bytes)});
    };
    make("llama", TensorType::kF32, PreTokenizer::kGpt2);
    make("llama", TensorType::kQ8_0, PreTokenizer::kLlamaBpe);
    make("qwen3", TensorType::kQ8_0, PreTokenizer::kQwen2);
    make("qwen2", TensorType::kQ4_0, PreTokenizer::kQwen2);
    make("qwen3", TensorType::kBf16, PreTokenizer::kGpt2);
    return all;
  }();
  std::size_t which = 0;
  run_mutations({.name = "gguf",
                 .good = [&](Draws& draws) { return Files{{"m.gguf", made[which = draws.below(made.size())].bytes}}; },
                 .mutate = [&](Files& files,
                               Draws& draws) { mutate_structure(files["m.gguf"], made[which].structure, draws); },
                 .readers = {{"generate", [](const fs::path& folder) {
                                predict_one_token(load_model((folder / "m.gguf").string(), one_thread()));
                              }}}});
}

// safetensors with config.json and a tokenizer: a Hugging Face folder

void mutate_safetensors(std::string& bytes, Draws& draws) {
  std::uint64_t length = get_field(bytes, {0, 8});
  if (draws.one_in(3) || length > bytes.size() - std::min<std::size_t>(8, bytes.size())) {
    const Structure known{{{0, 8}}, {}};
    return mutate_structure(bytes, known, draws);
  }
  std::string header = bytes.substr(8, length);
  mutate_json(header, draws);
  header.resize((header.size() + 7) / 8 * 8, ' ');
  bytes.replace(8, length, header);
  set_field(bytes, {0, 8}, header.size());
}

TEST(MutatedFilesTest, HuggingFaceFolder) {
  static const std::vector<Files> made = [] {
    std::vector<Files> all;
    for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
      const ModelDescription model = small_description(architecture, all.empty());
      const fs::path path = workshop() / "made-hf";
      fs::remove_all(path);
      export_hugging_face(model, tiny_tokenizer(kVocabulary, PreTokenizer::kQwen2), RandomWeights(model, 3),
                          all.empty() ? TensorType::kF32 : TensorType::kBf16, path);
      all.push_back(files_of(path));
    }
    return all;
  }();
  run_mutations({.name = "hugging_face",
                 .good = [](Draws& draws) { return draws.of(made); },
                 .mutate =
                     [](Files& files, Draws& draws) {
                       switch (draws.below(5)) {
                         case 0: return mutate_one(files, "config.json", [&](auto& text) { mutate_json(text, draws); });
                         case 1: return mutate_one(files, "tokenizer.json", [&](auto& text) { mutate_json(text, draws); });
                         case 2:
                           return mutate_one(files, "tokenizer_config.json",
                                             [&](auto& text) { mutate_json(text, draws); });
                         default:
                           return mutate_one(files, "model.safetensors",
                                             [&](auto& bytes) { mutate_safetensors(bytes, draws); });
                       }
                     },
                 .readers = {{"open", [](const fs::path& folder) {
                                const auto source = std::make_shared<HuggingFaceModel>(folder);
                                ModelFiles files{.path = folder.string(),
                                                 .kind = "folder",
                                                 .folder = folder,
                                                 .description = source->description(),
                                                 .tokenizer = std::make_shared<Tokenizer>(
                                                     Tokenizer::load(folder / "tokenizer.json")),
                                                 .source = source};
                                if (files.tokenizer->vocabulary() > files.description.vocabulary) return;
                                predict_one_token(LoadedModel(std::move(files), one_thread()));
                              }}}});
}

// tokenizer.json

TEST(MutatedFilesTest, Tokenizer) {
  static const std::vector<Files> made = [] {
    std::vector<Files> all;
    for (const PreTokenizer pre : {PreTokenizer::kGpt2, PreTokenizer::kLlamaBpe, PreTokenizer::kQwen2}) {
      Tokenizer::Parts parts = tiny_tokenizer(kVocabulary, pre).parts();
      parts.add_bos = pre == PreTokenizer::kLlamaBpe;
      parts.nfc = pre == PreTokenizer::kQwen2;
      parts.user_defined = {parts.specials.back()};
      parts.specials.pop_back();
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
  run_mutations({.name = "tokenizer",
                 .good = [](Draws& draws) { return draws.of(made); },
                 .mutate =
                     [](Files& files, Draws& draws) {
                       auto file = files.begin();
                       if (!draws.one_in(3)) file = files.find("tokenizer.json");
                       else std::advance(file, static_cast<std::ptrdiff_t>(draws.below(files.size())));
                       if (file->first.ends_with(".json")) mutate_json(file->second, draws);
                       else mutate_bytes(file->second, draws);
                     },
                 .readers = {{"encode, decode", [](const fs::path& folder) {
                                const Tokenizer tokenizer = Tokenizer::load(folder / "tokenizer.json");
                                for (const bool special : {false, true})
                                  tokenizer.decode(tokenizer.encode(
                                      "The cat's in 1234 caf\xc3\xa9s,\xff\n\n  e\xcc\x81t\xe4\xb8\xad\xe6\x96\x87 <|endoftext|>!",
                                      special));
                                Tokenizer::from_json(tokenizer.to_json(), "the same again");
                              }}}});
}

// Data folders: shards and their manifest

constexpr std::size_t kPreamble = 64, kHashDigits = 32, kBlock = 1 << 20;

/// Makes the hashes of a shard those of its bytes, as whoever can write it can.
void seal_shard(std::string& bytes) {
  const std::uint64_t header = get_field(bytes, {12, 4});
  if (bytes.size() < kPreamble || header > bytes.size() - kPreamble) return;
  bytes.replace(16, kHashDigits, xxh3_hex(bytes.data() + kPreamble, header));
  const std::size_t begin = kPreamble + header, rest = bytes.size() - begin;
  const std::size_t blocks = rest / (kBlock + kHashDigits) + 1;  // each has its hash at the end
  if (rest < blocks * kHashDigits) return;
  const std::size_t payload = rest - blocks * kHashDigits;
  for (std::size_t i = 0; i < blocks; ++i)
    bytes.replace(begin + payload + i * kHashDigits, kHashDigits,
                  xxh3_hex(bytes.data() + begin + i * kBlock, std::min(kBlock, payload - i * kBlock)));
}

void mutate_shard(std::string& bytes, Draws& draws) {
  const std::uint64_t length = get_field(bytes, {12, 4});
  if (bytes.size() < kPreamble + length || draws.one_in(6)) return mutate_bytes(bytes, draws);
  std::string header = bytes.substr(kPreamble, length);
  if (draws.one_in(3)) {
    mutate_json(header, draws);
    header.resize((header.size() + kPreamble - 1) / kPreamble * kPreamble, ' ');
    bytes.replace(kPreamble, length, header);
    set_field(bytes, {12, 4}, header.size());
    return;
  }
  const Json json = Json::parse(header, nullptr, false);
  Structure known{{{8, 4}, {12, 4}}, {}};
  if (json.is_object() && json.contains("tokens") && json["tokens"].is_number_unsigned() && json.contains("documents") &&
      json["documents"].is_number_unsigned()) {
    const std::size_t begin = kPreamble + length, tokens = json["tokens"].get<std::size_t>(),
                      table = begin + (tokens * 2 + 63) / 64 * 64;
    for (std::size_t i = 0; i < std::min<std::size_t>(tokens, 64); ++i) known.fields.push_back({begin + 2 * i, 2});
    for (std::size_t i = 0; i < std::min<std::size_t>(json["documents"].get<std::size_t>(), 64); ++i) {
      const std::size_t record = table + 72 * i;
      for (const Field field : {Field{record, 8}, {record + 8, 8}, {record + 16, 8}, {record + 56, 4},
                                {record + 60, 4}, {record + 64, 4}, {record + 68, 4}})
        known.fields.push_back(field);
    }
  }
  mutate_structure(bytes, known, draws);
}

void seal_manifest(Files& files, const std::string& folder, const std::string& ending) {
  files[folder + "manifest.sha256"] = sha256_hex(files[folder + "manifest.json"]) + ending;
}

/// A data folder of two lanes, small enough to be read thousands of times.
const Files& data_folder() {
  static const Files made = [] {
    const fs::path texts = workshop() / "texts.jsonl", path = workshop() / "data";
    std::string rows;
    for (int i = 0; i < 40; ++i)
      rows += to_line({{"text", join("the cat number ", i, " saw ", i * i, " dogs in the garden")},
                       {"lane", i % 3 == 0 ? "code" : "text"},
                       {"license", i % 2 == 0 ? "MIT" : "CC0-1.0"}}) +
              "\n";
    replace_file(texts, rows);
    fs::remove_all(path);
    prepare_corpus({.paths = {texts.string()}}, {.validation_fraction = 0.3, .threads = 1},
                   tiny_tokenizer(kVocabulary), path);
    return files_of(path);
  }();
  return made;
}

void read_with_loader(const fs::path& folder) {
  const Corpus corpus = Corpus::open(folder);
  for (const Split split : kSplits) {
    if (corpus.documents(split) == 0) continue;
    Loader loader(corpus, split, {}, 16, /*seed=*/1);
    const auto count = static_cast<int>(std::min<std::int64_t>(loader.sequences_per_epoch() + 2, 64));
    const Batch batch = loader.sequences(0, count);
    loader.targets(0, count);
    for (const int id : batch.ids)
      if (id < 0 || id >= corpus.tokenizer().vocabulary())
        throw Error(Fault::kBug, join("the loader gives the id ", id, ", which a model has no row for"));
    for (const int id : batch.targets)
      if (id < 0 || id >= corpus.tokenizer().vocabulary())
        throw Error(Fault::kBug, join("the loader gives the target ", id, ", which a model has no row for"));
  }
}

TEST(MutatedFilesTest, DataFolder) {
  run_mutations(
      {.name = "data",
       .good = [](Draws&) { return data_folder(); },
       .mutate =
           [](Files& files, Draws& draws) {
             const bool seal = !draws.one_in(6);
             std::vector<std::string> shards;
             for (const auto& [name, bytes] : files)
               if (!name.ends_with(".json") && !name.ends_with(".sha256")) shards.push_back(name);
             switch (draws.below(8)) {
               case 0: mutate_bytes(files["manifest.sha256"], draws); return;
               case 1: mutate_json(files["tokenizer.json"], draws); break;
               case 2:
               case 3:
               case 4: mutate_json(files["manifest.json"], draws); break;
               default: {
                 std::string& shard = files[draws.of(shards)];
                 mutate_shard(shard, draws);
                 if (seal) seal_shard(shard);
               }
             }
             if (seal) seal_manifest(files, "", "\n");
           },
       .readers = {{"verify", [](const fs::path& folder) { command_data({{"verify", folder.string()}, {}}); }},
                   {"inspect", [](const fs::path& folder) { command_data({{"inspect", folder.string()}, {}}); }},
                   {"inspect --json",
                    [](const fs::path& folder) {
                      command_data({{"inspect", folder.string()}, {"--json", "--rows", "2"}});
                    }},
                   {"loader", read_with_loader}}});
}

// Checkpoints

/// Makes every hash in a checkpoint folder that of its bytes, as far as its manifest can be read.
void seal_checkpoint(Files& files, const std::string& folder) {
  std::string& text = files[folder + "manifest.json"];
  Json json = Json::parse(text, nullptr, false);
  if (json.is_object() && json.contains("files") && json["files"].is_array() && json.contains("tensors") &&
      json["tensors"].is_array()) {
    bool changed = false;
    std::vector<const std::string*> contents;
    for (Json& file : json["files"]) {
      contents.push_back(nullptr);
      if (!file.is_object() || !file.contains("name") || !file["name"].is_string()) continue;
      const auto found = files.find(folder + file["name"].get<std::string>());
      if (found == files.end()) continue;
      contents.back() = &found->second;
      const std::string hash = xxh3_hex(found->second.data(), found->second.size());
      if (file.value("xxh3", Json()) == hash) continue;
      file["xxh3"] = hash, file["bytes"] = found->second.size();
      changed = true;
    }
    if (changed)
      for (Json& tensor : json["tensors"])
        for (Json& slice : tensor["slices"]) {
          const auto extent = slice["extent"].get<std::vector<std::size_t>>();
          const std::string* bytes = contents[slice["file"].get<std::size_t>()];
          const std::size_t at = slice["byte"], count = extent[0] * extent[1] * sizeof(float);
          if (bytes != nullptr && at + count <= bytes->size()) slice["xxh3"] = xxh3_hex(bytes->data() + at, count);
        }
    if (changed) text = json.dump(1) + "\n";
  }
  seal_manifest(files, folder, "  manifest.json\n");
}

TensorState state_of(const ModelDescription& model) {
  TensorState state;
  const RandomWeights weights(model, 5);
  for (const NamedTensor& tensor : weights.tensors()) {
    std::vector<float> numbers(static_cast<std::size_t>(tensor.size()));
    weights.read(tensor.name, numbers);
    state.entries[{"value", tensor.name}] = {tensor.shape, numbers};
    state.entries[{"adam_m", tensor.name}] = {tensor.shape, std::move(numbers)};
  }
  return state;
}

void mutate_checkpoint(Files& files, const std::string& folder, Draws& draws) {
  const bool seal = !draws.one_in(8);
  std::vector<std::string> binary;
  for (const auto& [name, bytes] : files)
    if (name.starts_with(folder) && name.ends_with(".h5")) binary.push_back(name);
  switch (draws.below(8)) {
    case 0: mutate_bytes(files[folder + "manifest.sha256"], draws); return;
    case 1:
    case 2: mutate_bytes(files[draws.of(binary)], draws); break;
    case 3:
      if (draws.one_in(2)) files.erase(draws.of(binary));
      else files[folder + "left.txt"] = "over";
      break;
    default: mutate_json(files[folder + "manifest.json"], draws);
  }
  try {
    if (seal) seal_checkpoint(files, folder);
  } catch (const nlohmann::json::exception&) {  // mutated twice
    seal_manifest(files, folder, "  manifest.json\n");
  }
}

TEST(MutatedFilesTest, Checkpoint) {
  static const Files made = [] {
    open_hdf5();
    const ModelDescription model = small_description("llama", true);
    CheckpointInfo info = small_info(7);
    info.architecture = to_json(model);
    info.tokenizer = tiny_tokenizer(kVocabulary).to_json();
    const TensorState state = state_of(model);
    const fs::path path = workshop() / "run" / "checkpoints";
    save(path, info, divide(state, 2, 1, 1));
    Files files = files_of(workshop() / "run");
    for (const auto& [name, bytes] : Files(files)) files["good/" + name] = bytes;
    return files;
  }();
  const std::string step = "checkpoints/step-00000007/";
  const auto checkpoint = [step](const fs::path& folder) { return (folder / step).string(); };
  run_mutations(
      {.name = "checkpoint",
       .good = [](Draws&) { return made; },
       .mutate = [step](Files& files, Draws& draws) { mutate_checkpoint(files, step, draws); },
       .readers = {
           {"verify", [=](const fs::path& folder) { command_checkpoint({{"verify", checkpoint(folder)}, {}}); }},
           {"verify --provenance",
            [=](const fs::path& folder) { command_checkpoint({{"verify", checkpoint(folder)}, {"--provenance"}}); }},
           {"inspect", [=](const fs::path& folder) { command_checkpoint({{"inspect", folder.string()}, {}}); }},
           {"inspect --json",
            [=](const fs::path& folder) { command_checkpoint({{"inspect", checkpoint(folder)}, {"--json"}}); }},
           {"diff",
            [=](const fs::path& folder) {
              command_checkpoint({{"diff", checkpoint(folder / "good"), checkpoint(folder)}, {"--json"}});
            }},
           {"consolidate",
            [=](const fs::path& folder) {
              command_checkpoint(
                  {{"consolidate", checkpoint(folder)}, {"--out", (folder / "out.safetensors").string()}});
            }},
           {"generate",
            [=](const fs::path& folder) { predict_one_token(load_model(checkpoint(folder), one_thread())); }}}});
}

// Receipts, by which the ranks of a save tell rank 0 what they wrote

TEST(MutatedFilesTest, Receipts) {
  open_hdf5();
  const std::vector<RankShards> ranks = divide(small_state(), 2, 1, 1);
  const CheckpointInfo info = small_info(3);
  std::uint64_t seed_of_receipt = 0;
  run_mutations({.name = "receipts",
                 .good =
                     [&](Draws&) {
                       seed_of_receipt = 0;
                       return Files{};
                     },
                 .mutate = [&](Files&, Draws& draws) { seed_of_receipt = 1 + draws.below(std::size_t{1} << 40); },
                 .readers = {{"publish", [&](const fs::path& folder) {
                                CheckpointWriter first(folder, 0, 2), second(folder, 1, 2);
                                first.begin(info, ranks[0].slices()), second.begin(info, ranks[1].slices());
                                first.wait(), second.wait();
                                Draws draws(seed_of_receipt, "receipt");
                                for (const auto& entry : fs::recursive_directory_iterator(folder)) {
                                  if (seed_of_receipt == 0) break;
                                  if (entry.path().extension() != ".json" || draws.one_in(2)) continue;
                                  std::string text = read_file(entry.path(), Fault::kStorage);
                                  mutate_json(text, draws);
                                  replace_file(entry.path(), text);
                                }
                                first.publish();
                                first.wait();
                                first.finish(), second.finish();
                              }}},
                 // Ranks trust each other: a layout that loses or doubles elements is a bug of ours.
                 .also_allowed = {Fault::kBug}});
}

// INI files

TEST(MutatedFilesTest, Config) {
  static const std::vector<Files> made = [] {
    std::vector<Files> all;
    RunConfig config;
    Fields fields;
    config.add_to(fields);
    config.model.preset = "llama-1m";
    all.push_back({{"run.ini", fields.to_ini()}});
    all.push_back({{"run.ini",
                    "# a run\n[model]\npreset = llama-1m\n\n[train]\nsteps = 20\nbatch = 8\nsequence = 64\n[optim]\n"
                    "name = muon\nschedule = wsd\n[mesh]\ntensor = 1\n[data]\npath = ../data\n"}});
    return all;
  }();
  run_mutations({.name = "config",
                 .good = [](Draws& draws) { return draws.of(made); },
                 .mutate = [](Files& files, Draws& draws) { mutate_ini(files["run.ini"], draws); },
                 .readers = {{"plan",
                              [](const fs::path& folder) {
                                command_plan({{}, {"--config", (folder / "run.ini").string(), "--data.path", ""}});
                              }},
                             {"plan --json --gpu",
                              [](const fs::path& folder) {
                                command_plan({{},
                                              {"--config", (folder / "run.ini").string(), "--data.path", "", "--json",
                                               "--gpu", "h100", "--ranks", "8"}});
                              }}},
                 .also_allowed = {Fault::kDevice}});
}

// Policies and lanes

TEST(MutatedFilesTest, PolicyAndLanes) {
  static const Files made = {
      {"policy.json", read_file(fs::path(SLIPWAY_SOURCE) / "configs" / "qa_policy.json", Fault::kConfig)},
      {"lanes.json", read_file(fs::path(SLIPWAY_SOURCE) / "configs" / "lanes.json", Fault::kConfig)}};
  static const std::vector<std::string> gates = [] {
    std::vector<std::string> ids;
    for (const Json& gate : Json::parse(made.at("policy.json"))["gates"]) ids.push_back(gate["id"]);
    return ids;
  }();
  run_mutations({.name = "policy",
                 .good = [](Draws&) { return made; },
                 .mutate = [](Files& files,
                              Draws& draws) { mutate_json(files[draws.one_in(3) ? "lanes.json" : "policy.json"], draws); },
                 .readers = {{"policy",
                              [](const fs::path& folder) {
                                const QaPolicy policy = QaPolicy::load(folder / "policy.json");
                                for (const std::string& id : gates) policy.at(id).threshold("llama");
                              }},
                             {"lanes", [](const fs::path& folder) { LaneRegistry::load(folder / "lanes.json"); }}}});
}

// Texts

std::string gzip(const std::string& text) {
  z_stream stream{};
  ::deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string packed(::deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  ::deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  ::deflateEnd(&stream);
  return packed;
}
std::string zstd(const std::string& text) {
  std::string packed(::ZSTD_compressBound(text.size()), '\0');
  packed.resize(::ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  return packed;
}

TEST(MutatedFilesTest, Texts) {
  static const Files made = [] {
    std::string rows, array = "[", plain;
    for (int i = 0; i < 30; ++i) {
      const std::string row = to_line({{"text", join("caf\xc3\xa9 ", i, "\nand more")},
                                       {"lane", "text"},
                                       {"license", "MIT"},
                                       {"meta", {{"n", i}, {"tags", {"a", "b"}}}}});
      rows += row + "\n";
      array += (i == 0 ? "\n" : ",\n") + row;
      plain += join("line ", i, " of a text, na\xc3\xafve and plain\n");
    }
    return Files{{"rows.jsonl", rows}, {"array.json", array + "\n]\n"}, {"plain.txt", plain}};
  }();
  const auto read_all = [](const fs::path& folder, const char* on_bad) {
    std::vector<std::string> texts;
    const auto read = [&](const fs::path& path) {
      TextSource source(TextInputs{.paths = {path.string()}},
                        {.document_bytes = 1000, .max_line_bytes = 100'000, .on_bad = on_bad});
      for (Document document; source.next(document);) texts.push_back(document.text);
    };
    if (std::string_view(on_bad) == "skip") return read(folder);
    for (const auto& entry : fs::directory_iterator(folder)) read(entry.path());
  };
  run_mutations({.name = "texts",
                 .good = [](Draws& draws) {
                   auto file = made.begin();
                   std::advance(file, static_cast<std::ptrdiff_t>(draws.below(made.size())));
                   return Files{*file};
                 },
                 .mutate =
                     [](Files& files, Draws& draws) {
                       std::string name = files.begin()->first, bytes = files.begin()->second;
                       const bool packed = name.ends_with(".gz") || name.ends_with(".zst");
                       if (packed || draws.one_in(4)) mutate_bytes(bytes, draws);
                       else if (name == "array.json") mutate_json(bytes, draws);
                       else mutate_json_line(bytes, draws);
                       if (!packed && draws.one_in(2)) {
                         const bool gz = draws.one_in(2);
                         bytes = gz ? gzip(bytes) : zstd(bytes);
                         if (draws.one_in(2)) bytes += gz ? gzip("more\n") : zstd("more\n");
                         name += gz ? ".gz" : ".zst";
                       }
                       files = {{name, bytes}};
                     },
                 .readers = {{"on_bad = error", [&](const fs::path& folder) { read_all(folder, "error"); }},
                             {"on_bad = skip", [&](const fs::path& folder) { read_all(folder, "skip"); }}}});
}

// Run folders

World& world() {
  static World instance;
  return instance;
}

TEST(MutatedFilesTest, RunFolder) {
  const fs::path run_made = workshop() / "trained" / "run", data = workshop() / "trained" / "data";
  static const Files made = [&] {
    put_files(data, data_folder());
    command_train({{},
                   {"--run", run_made.string(), "--data", data.string(), "--train.steps", "2", "--train.batch", "2",
                    "--train.sequence", "16", "--model.preset", "llama-1m", "--model.layers", "1", "--model.width",
                    "32", "--model.heads", "2", "--model.kv_heads", "1", "--model.ffn", "32", "--train.rehearsal",
                    "off", "--checkpoint.every", "1", "--validate.every", "1", "--runtime.threads", "1",
                    "--train.calibrate_s", "0"}},
                  world);
    Files files = files_of(workshop() / "trained");
    std::erase_if(files, [](const auto& file) { return file.first.starts_with("run/events/"); });
    files["run/config.history.jsonl"] =
        R"({"time":"2026-01-01T00:00:00Z","version":"0.1.0","step":1,"given":{"log.every":"1","train.steps":"2"}})"
        "\n";
    return files;
  }();
  const auto resume = [](std::vector<std::string> more) {
    return [more](const fs::path& folder) {
      std::vector<std::string> flags = {"--resume", (folder / "run").string(), "--train.steps", "2",
                                        "--runtime.threads", "1"};
      flags.insert(flags.end(), more.begin(), more.end());
      command_train({{}, flags}, world);
    };
  };
  run_mutations(
      {.name = "run",
       .good = [](Draws&) { return made; },
       .mutate =
           [](Files& files, Draws& draws) {
             static const std::vector<std::string> kJson = {"run/status.json", "run/checkpoints/best.json",
                                                            "run/plan.json"};
             static const std::vector<std::string> kLines = {"run/metrics.jsonl", "run/config.history.jsonl"};
             static const std::vector<std::string> kIni = {"run/config.ini", "run/resolved.ini"};
             switch (draws.below(6)) {
               case 0: return mutate_json(files[draws.of(kJson)], draws);
               case 1: return mutate_json_line(files[draws.of(kLines)], draws);
               case 2: return mutate_ini(files[draws.of(kIni)], draws);
               default: return mutate_checkpoint(files, "run/checkpoints/step-00000002/", draws);
             }
           },
       .readers = {{"resume", resume({})},
                   {"resume from the best", resume({"--checkpoint", "best"})},
                   {"fork",
                    [](const fs::path& folder) {
                      command_train({{},
                                     {"--fork", (folder / "run").string(), "--run", (folder / "new").string(),
                                      "--train.steps", "3", "--train.rehearsal", "off", "--runtime.threads", "1",
                                      "--train.calibrate_s", "0"}},
                                    world);
                    }},
                   {"the best", [](const fs::path& folder) {
                      LoadOptions options = one_thread();
                      options.checkpoint = "best";
                      predict_one_token(load_model((folder / "run").string(), options));
                    }}},
       .also_allowed = {Fault::kDevice},
       .share = 4});
}

}  // namespace
}  // namespace slipway::test
