// slipway checkpoint verify|inspect|diff|consolidate: what a checkpoint holds, without any model code.
#include <algorithm>
#include <bit>
#include <cstring>
#include <future>
#include <iostream>
#include <map>
#include <optional>
#include <sstream>
#include <tuple>

#include "io/checkpoint/checkpoint.hpp"
#include "io/model/safetensors.hpp"
#include "launch/commands/command.hpp"
#include "launch/process/write_failures.hpp"
#include "src/core/clock.hpp"
#include "src/core/log.hpp"

namespace slipway {
namespace {

constexpr char kPath[] = "PATH is a checkpoint folder, or a run folder, of which --checkpoint chooses.";
constexpr Usage kVerify{.summary = "Checks every file of a checkpoint against its hashes.",
                        .synopsis = "slipway checkpoint verify PATH [--provenance] [--json]",
                        .example = "slipway checkpoint verify runs/a",
                        .notes = kPath};
constexpr Usage kInspect{.summary = "Shows what a checkpoint holds: step, layout, config, history, tensors.",
                         .synopsis = "slipway checkpoint inspect PATH [--json]",
                         .example = "slipway checkpoint inspect runs/a",
                         .notes = kPath};
constexpr Usage kDiff{
    .summary = "Compares two checkpoints bit by bit: weights, moments, step, data cursor, random streams.",
    .synopsis = "slipway checkpoint diff A B [--json]",
    .example = "slipway checkpoint diff runs/a runs/b",
    .notes = "A and B are checkpoint or run folders. Exit status 8 when they differ."};
constexpr Usage kConsolidate{.summary = "Writes the weights of all ranks to one safetensors file.",
                             .synopsis = "slipway checkpoint consolidate PATH --out FILE.safetensors",
                             .example = "slipway checkpoint consolidate runs/a --out a.safetensors",
                             .notes = kPath};

struct CheckpointOptions {
  std::string checkpoint;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("checkpoint", self.checkpoint,
          {"which checkpoint of a run folder; the newest where none is named", "best|STEP"}, ResumePolicy::kReporting);
  }
};

/// Options of the forms that print results.
struct PrintOptions : CheckpointOptions {
  Flag json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    CheckpointOptions::fields(self, visit);
    visit("json", self.json, "print one JSON object", ResumePolicy::kReporting);
  }
};

struct VerifyOptions : PrintOptions {
  Flag provenance;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    PrintOptions::fields(self, visit);
    visit("provenance", self.provenance, "also compute the hash that names the weights in any format (SHA-256, slow)",
          ResumePolicy::kReporting);
  }
};

struct ConsolidateOptions : CheckpointOptions {
  std::string out;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    CheckpointOptions::fields(self, visit);
    visit("out", self.out, {"file to write", "FILE.safetensors"}, ResumePolicy::kReporting);
  }
};

CheckpointReader open(const std::string& path, const CheckpointOptions& options) {
  return CheckpointReader(find_checkpoint(path, options.checkpoint).folder);
}

std::string shape_text(const std::vector<std::int64_t>& shape) { return Json(shape).dump(); }

int verify(const std::string& path, const VerifyOptions& options) {
  CheckpointReader reader = open(path, options);
  const double start_s = now_s();
  std::future<std::string> provenance_hash;  // in a thread with its own reader: takes as long as verify_all()
  if (options.provenance)
    provenance_hash = std::async(std::launch::async, [&folder = reader.folder()] {
      CheckpointReader weights_reader(folder, RecoveryHint::kNone);  // verify_all() reports damaged files
      return provenance_sha256(weights_reader);
    });
  reader.verify_all();
  const Manifest& manifest = reader.manifest();
  Json result = {{"ok", true},
                 {"step", manifest.info.step},
                 {"files", manifest.files.size() + 2},
                 {"bytes", manifest.bytes()},
                 {"tensors", manifest.tensors.size()}};
  if (options.provenance) result["provenance_sha256"] = provenance_hash.get();
  if (options.json) {
    std::cout << to_line(result) << '\n';
    return 0;
  }
  std::cout << reader.folder().string() << ": good. Step " << manifest.info.step << ", " << manifest.tensors.size()
            << " tensors in " << manifest.files.size() + 2 << " files, "
            << human_bytes(static_cast<double>(manifest.bytes())) << " read in " << human_time(now_s() - start_s)
            << '\n';
  if (options.provenance) std::cout << "provenance sha256 " << result["provenance_sha256"].get<std::string>() << '\n';
  return 0;
}

Json inspect_json(const CheckpointReader& reader) {
  const CheckpointInfo& info = reader.info();
  std::int64_t parameters = 0;
  Json tensors = Json::array();
  for (const StoredTensor& tensor : reader.tensors()) {
    const auto [rows, cols] = rows_cols(tensor.shape);
    if (tensor.kind == "value") parameters += rows * cols;
    tensors.push_back({{"name", tensor.name},
                       {"kind", tensor.kind},
                       {"dtype", tensor.dtype},
                       {"shape", tensor.shape},
                       {"slices", tensor.slices.size()}});
  }
  Json files = Json::array();
  for (const StoredFile& file : reader.manifest().files) files.push_back(to_json(file));
  return {{"kind", info.kind},
          {"step", info.step},
          {"run_id", info.run_id},
          {"layout", {{"data", info.layout.data}, {"tensor", info.layout.tensor}, {"pipeline", info.layout.pipeline}}},
          {"parameters", parameters},
          {"bytes", reader.manifest().bytes()},
          {"architecture", info.architecture},
          {"config", info.config},
          {"data", info.data},
          {"random", info.random},
          {"history", info.history},
          {"build", info.build},
          {"sections", info.sections},
          {"tokenizer_bytes", info.tokenizer.size()},
          {"files", files},
          {"tensors", tensors}};
}

int inspect(const std::string& path, const PrintOptions& options) {
  const CheckpointReader reader = open(path, options);
  const Json json = inspect_json(reader);
  if (options.json) {
    std::cout << to_line(json) << '\n';
    return 0;
  }
  const CheckpointInfo& info = reader.info();
  std::cout << reader.folder().string() << "\nkind " << info.kind << ", step " << info.step << ", run " << info.run_id
            << "\nwritten by data " << info.layout.data << " x tensor " << info.layout.tensor << " x pipeline "
            << info.layout.pipeline << " ranks\n"
            << human_count(json.at("parameters").get<double>()) << " parameters, "
            << human_bytes(json.at("bytes").get<double>()) << " in " << reader.manifest().files.size()
            << " HDF5 files, tokenizer of " << human_bytes(static_cast<double>(info.tokenizer.size())) << '\n';
  for (const char* section : {"architecture", "config", "data", "random", "history", "build", "sections"}) {
    std::cout << '\n' << section << '\n';
    for (const auto& [key, value] : json.at(section).items())
      std::cout << "  " << key << " = " << to_line(value) << '\n';
  }
  std::cout << "\ntensors (kind, name, shape, stored slices)\n";
  for (const StoredTensor& tensor : reader.tensors())
    std::cout << "  " << tensor.kind << ' ' << tensor.name << ' ' << shape_text(tensor.shape) << ' '
              << tensor.slices.size() << '\n';
  return 0;
}

/// A difference between two checkpoints, as a sentence and as JSON.
struct Difference {
  std::string message;
  Json json;
};

/// The first element, in order, whose bits differ.
std::optional<Difference> first_difference(CheckpointReader& a, CheckpointReader& b, const StoredTensor& tensor) {
  constexpr std::int64_t kBlockElements = 4 << 20;  // of both at once: 32 MiB
  const auto [rows, cols] = rows_cols(tensor.shape);
  const std::int64_t block_rows = std::clamp<std::int64_t>(kBlockElements / cols, 1, rows);
  a.open_files(tensor);  // before memory is allocated for it
  std::vector<float> a_values(static_cast<std::size_t>(block_rows * cols)), b_values(a_values.size());
  for (std::int64_t row = 0; row < rows; row += block_rows) {
    const Slice slice{tensor.name, tensor.kind, tensor.shape, {row, 0}, {std::min(block_rows, rows - row), cols}};
    a.read(slice, a_values.data(), cols);
    b.read(slice, b_values.data(), cols);
    if (std::memcmp(a_values.data(), b_values.data(), static_cast<std::size_t>(slice.size()) * sizeof(float)) == 0)
      continue;
    std::size_t i = 0;
    while (std::bit_cast<std::uint32_t>(a_values[i]) == std::bit_cast<std::uint32_t>(b_values[i])) ++i;
    std::vector<std::int64_t> index{row + static_cast<std::int64_t>(i) / cols, static_cast<std::int64_t>(i) % cols};
    if (tensor.shape.size() == 1) index.erase(index.begin());
    std::ostringstream values;
    values.precision(9);  // enough to tell any two floats apart
    values << a_values[i] << " and " << b_values[i];
    return Difference{join(tensor.kind, " of ", tensor.name, " differs at ", shape_text(index), ": ", values.str()),
                      {{"what", "number"},
                       {"kind", tensor.kind},
                       {"tensor", tensor.name},
                       {"index", index},
                       {"a", a_values[i]},
                       {"b", b_values[i]}}};
  }
  return std::nullopt;
}

/// Step, cursor and random streams first, then every tensor; times, hosts, layout, build and losses are not compared.
std::optional<Difference> first_difference(CheckpointReader& a, CheckpointReader& b) {
  const auto make_difference = [](const std::string& what, const Json& a_value, const Json& b_value) {
    return Difference{join("the ", what, " differs: ", a_value.dump(), " and ", b_value.dump()),
                      {{"what", what}, {"a", a_value}, {"b", b_value}}};
  };
  if (a.info().step != b.info().step) return make_difference("step", a.info().step, b.info().step);
  const auto cursor = [](const CheckpointReader& reader) { return reader.info().data.value("cursor", Json()); };
  if (cursor(a) != cursor(b)) return make_difference("data cursor", cursor(a), cursor(b));
  if (a.info().random != b.info().random)
    return make_difference("state of the random streams", a.info().random, b.info().random);

  for (const auto& [source, other_reader, missing_in] : {std::tuple(&a, &b, "second"), std::tuple(&b, &a, "first")})
    for (const StoredTensor& tensor : source->tensors())
      if (other_reader->find(tensor.name, tensor.kind) == nullptr)
        return Difference{
            join("the ", missing_in, " has no ", tensor.kind, " of ", tensor.name),
            {{"what", "tensor"}, {"kind", tensor.kind}, {"tensor", tensor.name}, {"missing_in", missing_in}}};
  log::Progress progress("diff");
  std::size_t num_compared = 0;
  for (const StoredTensor& tensor : a.tensors()) {
    progress(static_cast<double>(num_compared++), static_cast<double>(a.tensors().size()));
    const StoredTensor& other = *b.find(tensor.name, tensor.kind);
    if (tensor.shape != other.shape) return make_difference(join("shape of ", tensor.name), tensor.shape, other.shape);
    if (const auto difference = first_difference(a, b, tensor)) return difference;
  }
  return std::nullopt;
}

int diff(const std::string& path_a, const std::string& path_b, const PrintOptions& options) {
  CheckpointReader a = open(path_a, options), b = open(path_b, options);
  const auto difference = first_difference(a, b);
  if (options.json) {
    Json json = {{"equal", !difference}};
    if (difference) json["first_difference"] = difference->json;
    std::cout << to_line(json) << '\n';
  } else if (difference) {
    std::cout << "different: " << difference->message << '\n';
  } else {
    std::cout << "equal: step " << a.info().step << ", cursor, random streams and " << a.tensors().size()
              << " tensors, to the bit\n";
  }
  return difference ? static_cast<int>(Fault::kGate) : 0;
}

int consolidate(const std::string& path, const ConsolidateOptions& options) {
  ignore_sigpipe();
  if (options.out.empty()) throw Error(Fault::kConfig, "checkpoint consolidate needs --out FILE.safetensors");
  CheckpointReader reader = open(path, options);
  std::vector<SafeTensor> safe_tensors;
  std::vector<const StoredTensor*> stored_tensors;
  for (const StoredTensor& tensor : reader.tensors()) {
    if (tensor.kind != "value") continue;
    safe_tensors.push_back({.tensor = {tensor.name, tensor.shape}});
    stored_tensors.push_back(&tensor);
  }
  const CheckpointInfo& info = reader.info();
  log::Progress hash_progress("provenance hash");
  const std::string provenance = provenance_sha256(reader, std::ref(hash_progress));
  const std::map<std::string, std::string> metadata{{"format", "pt"},
                                                    {"slipway.provenance_sha256", provenance},
                                                    {"slipway.run_id", info.run_id},
                                                    {"slipway.step", std::to_string(info.step)},
                                                    {"slipway.architecture", info.architecture.dump()}};
  log::Progress progress("consolidate");
  write_safetensors(options.out, metadata, safe_tensors, [&](std::size_t index, const ByteSink& sink) {
    progress(static_cast<double>(index), static_cast<double>(safe_tensors.size()));
    reader.stream(*stored_tensors[index], [&](std::span<const float> values) { sink(std::as_bytes(values)); });
  });
  log::info(join("wrote ", safe_tensors.size(), " tensors of step ", info.step, " to ", options.out));
  std::cout << "provenance sha256 " << provenance << '\n';
  return 0;
}

template <class Options>
bool read_options(Options& options, const Arguments& arguments, const Usage& usage) {
  Fields fields;
  fields.add(options);
  return read_arguments(fields, arguments, usage);
}

constexpr char kExpectedPath[] = "one PATH before the options: a checkpoint folder or a run folder";

int run_verify(const Arguments& arguments) {
  VerifyOptions options;
  return read_options(options, arguments, kVerify) ? verify(arguments.positional(kExpectedPath), options) : 0;
}

int run_inspect(const Arguments& arguments) {
  PrintOptions options;
  return read_options(options, arguments, kInspect) ? inspect(arguments.positional(kExpectedPath), options) : 0;
}

int run_diff(const Arguments& arguments) {
  PrintOptions options;
  if (!read_options(options, arguments, kDiff)) return 0;
  const std::vector<std::string>& paths = arguments.positionals;
  if (paths.size() != 2)
    throw Error(
        Fault::kConfig,
        join("checkpoint diff compares two checkpoints, A and B, named before the options; found ", paths.size()));
  return diff(paths[0], paths[1], options);
}

int run_consolidate(const Arguments& arguments) {
  ConsolidateOptions options;
  return read_options(options, arguments, kConsolidate) ? consolidate(arguments.positional(kExpectedPath), options) : 0;
}

constexpr Subcommand kCheckpointSubcommands[] = {{"verify", kVerify, run_verify},
                                                 {"inspect", kInspect, run_inspect},
                                                 {"diff", kDiff, run_diff},
                                                 {"consolidate", kConsolidate, run_consolidate}};

}  // namespace

int command_checkpoint(const Arguments& arguments) {
  return run_subcommand("checkpoint", kCheckpointSubcommands, arguments);
}

}  // namespace slipway
