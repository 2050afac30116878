// Mutated checkpoints and run folders, read as the program reads them. Each case ends in a result or in an error of a
// documented kind, soon, and within memory that its files' size bounds (SECURITY.md).
#include <gtest/gtest.h>

#include <optional>

#include "comm/group.hpp"
#include "comm/world.hpp"
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

// Checkpoints

/// Makes every hash in a checkpoint folder that of its bytes, as far as its manifest can be read.
void seal_checkpoint(Files& files, const std::string& folder) {
  std::string& text = files[folder + "manifest.json"];
  const bool deep = json_depth(text) > kMaxJsonDepth;  // refused by readers; copies would overflow the stack
  Json json = deep ? Json() : Json::parse(text, nullptr, false);
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

TensorState state_of(const ModelSpec& model) {
  TensorState state;
  const RandomWeights weights(model, 5);
  for (const TensorInfo& tensor : weights.tensors()) {
    std::vector<float> numbers(static_cast<std::size_t>(tensor.size()));
    weights.read(tensor.name, numbers);
    state.entries[{"value", tensor.name}] = {tensor.shape, numbers};
    state.entries[{"adam_m", tensor.name}] = {tensor.shape, std::move(numbers)};
  }
  return state;
}

void mutate_checkpoint(Files& files, const std::string& folder, FuzzRng& rng) {
  const bool seal = !rng.one_in(8);
  std::vector<std::string> binary;
  for (const auto& [name, bytes] : files)
    if (name.starts_with(folder) && name.ends_with(".h5")) binary.push_back(name);
  switch (rng.below(8)) {
    case 0: mutate_bytes(files[folder + "manifest.sha256"], rng); return;
    case 1:
    case 2: mutate_bytes(files[rng.pick(binary)], rng); break;
    case 3:
      if (rng.one_in(2)) files.erase(rng.pick(binary));
      else files[folder + "left.txt"] = "over";
      break;
    default: mutate_json(files[folder + "manifest.json"], rng);
  }
  try {
    if (seal) seal_checkpoint(files, folder);
  } catch (const nlohmann::json::exception&) {  // mutated twice
    seal_manifest(files, folder, "  manifest.json\n");
  }
}

TEST(MutatedFilesTest, Checkpoint) {
  static const Files valid_files = [] {
    init_hdf5();
    const ModelSpec model = small_spec("llama", true);
    CheckpointInfo info = make_small_info(7);
    info.architecture = to_json(model);
    info.tokenizer = tiny_tokenizer(kVocabulary).to_json();
    const TensorState state = state_of(model);
    const fs::path path = fixture_folder() / "run" / "checkpoints";
    save(path, info, shard_state(state, 2, 1, 1));
    Files files = read_files(fixture_folder() / "run");
    for (const auto& [name, bytes] : Files(files)) files["good/" + name] = bytes;
    return files;
  }();
  const std::string step = "checkpoints/step-00000007/";
  const auto checkpoint = [step](const fs::path& folder) { return (folder / step).string(); };
  run_mutations(
      {.name = "checkpoint",
       .make_valid = [](FuzzRng&) { return valid_files; },
       .mutate = [step](Files& files, FuzzRng& rng) { mutate_checkpoint(files, step, rng); },
       .readers = {{"verify",
                    [=](const fs::path& folder) {
                      command_checkpoint({{"verify", checkpoint(folder)}, {}});
                    }},
                   {"verify --provenance",
                    [=](const fs::path& folder) {
                      command_checkpoint({{"verify", checkpoint(folder)}, {"--provenance"}});
                    }},
                   {"inspect",
                    [=](const fs::path& folder) {
                      command_checkpoint({{"inspect", folder.string()}, {}});
                    }},
                   {"inspect --json",
                    [=](const fs::path& folder) {
                      command_checkpoint({{"inspect", checkpoint(folder)}, {"--json"}});
                    }},
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
                    [=](const fs::path& folder) { predict_one_token(load_model(checkpoint(folder), one_thread())); }}},
       .case_divisor = 4});
}

// Receipts, in which the ranks of a save report to rank 0 what they wrote

TEST(MutatedFilesTest, Receipts) {
  init_hdf5();
  const std::vector<RankShards> ranks = shard_state(make_small_state(), 2, 1, 1);
  const CheckpointInfo info = make_small_info(3);
  std::uint64_t seed_of_receipt = 0;
  run_mutations({.name = "receipts",
                 .make_valid =
                     [&](FuzzRng&) {
                       seed_of_receipt = 0;
                       return Files{};
                     },
                 .mutate = [&](Files&, FuzzRng& rng) { seed_of_receipt = 1 + rng.below(std::size_t{1} << 40); },
                 .readers = {{"publish",
                              [&](const fs::path& folder) {
                                CheckpointWriter first(folder, 0, 2), second(folder, 1, 2);
                                first.begin(info, ranks[0].slices()), second.begin(info, ranks[1].slices());
                                first.wait(), second.wait();
                                FuzzRng rng(seed_of_receipt, "receipt");
                                for (const auto& entry : fs::recursive_directory_iterator(folder)) {
                                  if (seed_of_receipt == 0) break;
                                  if (entry.path().extension() != ".json" || rng.one_in(2)) continue;
                                  std::string text = read_file(entry.path(), Fault::kStorage);
                                  mutate_json(text, rng);
                                  atomic_write_file(entry.path(), text);
                                }
                                first.publish();
                                first.wait();
                                first.finish(), second.finish();
                              }}},
                 // Ranks trust each other: a layout that loses or duplicates elements is a bug.
                 .allowed_faults = {Fault::kBug},
                 .case_divisor = 4,
                 .reader_written_bytes = 1 << 20});  // a string of a receipt may grow that long
}

// Run folders

World& world() {
  static World instance;
  return instance;
}

TEST(MutatedFilesTest, RunFolder) {
  const fs::path run_made = fixture_folder() / "trained" / "run", data = fixture_folder() / "trained" / "data";
  static const Files valid_files = [&] {
    write_files(data, data_folder_files());
    command_train({{},
                   {"--run",
                    run_made.string(),
                    "--data",
                    data.string(),
                    "--train.steps",
                    "2",
                    "--train.batch",
                    "2",
                    "--train.sequence",
                    "16",
                    "--model.preset",
                    "llama-1m",
                    "--model.layers",
                    "1",
                    "--model.width",
                    "32",
                    "--model.heads",
                    "2",
                    "--model.kv_heads",
                    "1",
                    "--model.ffn",
                    "32",
                    "--train.rehearsal",
                    "off",
                    "--checkpoint.every",
                    "1",
                    "--validate.every",
                    "1",
                    "--runtime.threads",
                    "1",
                    "--train.calibrate_s",
                    "0"}},
                  world);
    Files files = read_files(fixture_folder() / "trained");
    std::erase_if(files, [](const auto& file) { return file.first.starts_with("run/events/"); });
    files["run/config.history.jsonl"] =
        R"({"time":"2026-01-01T00:00:00Z","version":"0.1.0","step":1,"given":{"log.every":"1","train.steps":"2"}})"
        "\n";
    return files;
  }();
  const auto resume = [](const std::vector<std::string>& more) {
    return [more](const fs::path& folder) {
      std::vector<std::string> flags = {"--resume", (folder / "run").string(), "--train.steps",
                                        "2",        "--runtime.threads",       "1"};
      flags.insert(flags.end(), more.begin(), more.end());
      command_train({{}, flags}, world);
    };
  };
  run_mutations({.name = "run",
                 .make_valid = [](FuzzRng&) { return valid_files; },
                 .mutate =
                     [](Files& files, FuzzRng& rng) {
                       static const std::vector<std::string> kJson = {"run/status.json", "run/checkpoints/best.json",
                                                                      "run/plan.json"};
                       static const std::vector<std::string> kLines = {"run/metrics.jsonl", "run/config.history.jsonl"};
                       static const std::vector<std::string> kIni = {"run/config.ini", "run/resolved.ini"};
                       switch (rng.below(6)) {
                         case 0: return mutate_json(files[rng.pick(kJson)], rng);
                         case 1: return mutate_json_line(files[rng.pick(kLines)], rng);
                         case 2: return mutate_ini(files[rng.pick(kIni)], rng);
                         default: return mutate_checkpoint(files, "run/checkpoints/step-00000002/", rng);
                       }
                     },
                 .readers = {{"resume", resume({})},
                             {"resume from the best", resume({"--checkpoint", "best"})},
                             {"fork",
                              [](const fs::path& folder) {
                                command_train({{},
                                               {"--fork", (folder / "run").string(), "--run", (folder / "new").string(),
                                                "--train.steps", "3", "--train.rehearsal", "off", "--runtime.threads",
                                                "1", "--train.calibrate_s", "0"}},
                                              world);
                              }},
                             {"the best",
                              [](const fs::path& folder) {
                                LoadOptions options = one_thread();
                                options.checkpoint = "best";
                                predict_one_token(load_model((folder / "run").string(), options));
                              }}},
                 .allowed_faults = {Fault::kDevice},
                 .case_divisor = 8});
}

}  // namespace
}  // namespace slipway::test
