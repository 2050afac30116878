// Mutated data folders, texts, configurations and policies, read as the program reads them. Each case ends in a result
// or in an error of a documented kind, soon, and within memory that its files' size bounds (SECURITY.md).
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <optional>

#include "comm/group.hpp"
#include "io/checkpoint/checkpoint.hpp"
#include "io/model/hugging_face_model.hpp"
#include "io/model/model_spec_json.hpp"
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

void mutate_shard(std::string& bytes, FuzzRng& rng) {
  const std::uint64_t length = get_field(bytes, {12, 4});
  if (bytes.size() < kPreamble + length || rng.one_in(6)) return mutate_bytes(bytes, rng);
  std::string header = bytes.substr(kPreamble, length);
  if (rng.one_in(3)) {
    mutate_json(header, rng);
    header.resize((header.size() + kPreamble - 1) / kPreamble * kPreamble, ' ');
    bytes.replace(kPreamble, length, header);
    set_field(bytes, {12, 4}, header.size());
    return;
  }
  const Json json = Json::parse(header, nullptr, false);
  BinaryLayout layout{{{8, 4}, {12, 4}}, {}};
  if (json.is_object() && json.contains("tokens") && json["tokens"].is_number_unsigned() &&
      json.contains("documents") && json["documents"].is_number_unsigned()) {
    const std::size_t begin = kPreamble + length, tokens = json["tokens"].get<std::size_t>(),
                      table = begin + (tokens * 2 + 63) / 64 * 64;
    for (std::size_t i = 0; i < std::min<std::size_t>(tokens, 64); ++i) layout.fields.push_back({begin + 2 * i, 2});
    for (std::size_t i = 0; i < std::min<std::size_t>(json["documents"].get<std::size_t>(), 64); ++i) {
      const std::size_t record = table + 72 * i;
      for (const Field field : {Field{record, 8},
                                {record + 8, 8},
                                {record + 16, 8},
                                {record + 56, 4},
                                {record + 60, 4},
                                {record + 64, 4},
                                {record + 68, 4}})
        layout.fields.push_back(field);
    }
  }
  mutate_structure(bytes, layout, rng);
}

void read_with_loader(const fs::path& folder) {
  const Corpus corpus = Corpus::open(folder);
  for (const Split split : kSplits) {
    if (corpus.documents(split) == 0) continue;
    Loader loader(corpus, split, {}, 16, /*seed=*/1);
    const auto count = static_cast<int>(std::min<std::int64_t>(loader.sequences_per_epoch() + 2, 64));
    const Batch batch = loader.sequences(0, count);
    for (const int id : batch.ids)
      if (id < 0 || id >= corpus.tokenizer().vocabulary_size())
        throw Error(Fault::kBug, join("the loader gives the id ", id, ", which a model has no row for"));
    for (const int id : batch.targets)
      if (id < 0 || id >= corpus.tokenizer().vocabulary_size())
        throw Error(Fault::kBug, join("the loader gives the target ", id, ", which a model has no row for"));
  }
}

TEST(MutatedFilesTest, DataFolder) {
  run_mutations({.name = "data",
                 .make_valid = [](FuzzRng&) { return data_folder_files(); },
                 .mutate =
                     [](Files& files, FuzzRng& rng) {
                       const bool seal = !rng.one_in(6);
                       std::vector<std::string> shards;
                       for (const auto& [name, bytes] : files)
                         if (!name.ends_with(".json") && !name.ends_with(".sha256")) shards.push_back(name);
                       switch (rng.below(8)) {
                         case 0: mutate_bytes(files["manifest.sha256"], rng); return;
                         case 1: mutate_json(files["tokenizer.json"], rng); break;
                         case 2:
                         case 3:
                         case 4: mutate_json(files["manifest.json"], rng); break;
                         default: {
                           std::string& shard = files[rng.pick(shards)];
                           mutate_shard(shard, rng);
                           if (seal) seal_shard(shard);
                         }
                       }
                       if (seal) seal_manifest(files, "", "\n");
                     },
                 .readers = {{"verify",
                              [](const fs::path& folder) {
                                command_data({{"verify", folder.string()}, {}});
                              }},
                             {"inspect",
                              [](const fs::path& folder) {
                                command_data({{"inspect", folder.string()}, {}});
                              }},
                             {"inspect --json",
                              [](const fs::path& folder) {
                                command_data({{"inspect", folder.string()}, {"--json", "--rows", "2"}});
                              }},
                             {"loader", read_with_loader}},
                 .case_divisor = 4});
}

// INI files

TEST(MutatedFilesTest, Config) {
  static const std::vector<Files> valid_files = [] {
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
                 .make_valid = [](FuzzRng& rng) { return rng.pick(valid_files); },
                 .mutate = [](Files& files, FuzzRng& rng) { mutate_ini(files["run.ini"], rng); },
                 .readers = {{"plan",
                              [](const fs::path& folder) {
                                command_plan({{},
                                              {"--config", (folder / "run.ini").string(), "--data.path", "",
                                               "--train.calibrate_s", "0"}});  // which computes for seconds
                              }},
                             {"plan --json --gpu",
                              [](const fs::path& folder) {
                                command_plan({{},
                                              {"--config", (folder / "run.ini").string(), "--data.path", "",
                                               "--train.calibrate_s", "0", "--json", "--gpu", "h100", "--ranks", "8"}});
                              }}},
                 .allowed_faults = {Fault::kDevice},
                 .declared_bytes = std::uint64_t{256} << 20});  // a batch of 2^22 tokens
}

// Policies and lanes

TEST(MutatedFilesTest, PolicyAndLanes) {
  static const Files valid_files = {
      {"policy.json", read_file(fs::path(SLIPWAY_SOURCE) / "configs" / "qa_policy.json", Fault::kConfig)},
      {"lanes.json", read_file(fs::path(SLIPWAY_SOURCE) / "configs" / "lanes.json", Fault::kConfig)}};
  static const std::vector<std::string> gates = [] {
    std::vector<std::string> ids;
    const Json policy = Json::parse(valid_files.at("policy.json"));
    for (const Json& gate : policy.at("gates")) ids.push_back(gate.at("id"));
    return ids;
  }();
  run_mutations({.name = "policy",
                 .make_valid = [](FuzzRng&) { return valid_files; },
                 .mutate = [](Files& files,
                              FuzzRng& rng) { mutate_json(files[rng.one_in(3) ? "lanes.json" : "policy.json"], rng); },
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
  static const Files valid_files = [] {
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
                 .make_valid =
                     [](FuzzRng& rng) {
                       auto file = valid_files.begin();
                       std::advance(file, static_cast<std::ptrdiff_t>(rng.below(valid_files.size())));
                       return Files{*file};
                     },
                 .mutate =
                     [](Files& files, FuzzRng& rng) {
                       std::string name = files.begin()->first, bytes = files.begin()->second;
                       const bool packed = name.ends_with(".gz") || name.ends_with(".zst");
                       if (packed || rng.one_in(4)) mutate_bytes(bytes, rng);
                       else if (name == "array.json") mutate_json(bytes, rng);
                       else mutate_json_line(bytes, rng);
                       if (!packed && rng.one_in(2)) {
                         const bool gz = rng.one_in(2);
                         bytes = gz ? gzip(bytes) : zstd(bytes);
                         if (rng.one_in(2)) bytes += gz ? gzip("more\n") : zstd("more\n");
                         name += gz ? ".gz" : ".zst";
                       }
                       files = {{name, bytes}};
                     },
                 .readers = {{"on_bad = error", [&](const fs::path& folder) { read_all(folder, "error"); }},
                             {"on_bad = skip", [&](const fs::path& folder) { read_all(folder, "skip"); }}}});
}

}  // namespace
}  // namespace slipway::test
