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
                        .forms = "slipway checkpoint verify PATH [--provenance] [--json]",
                        .example = "slipway checkpoint verify runs/a",
                        .notes = kPath};
constexpr Usage kInspect{.summary = "Shows what a checkpoint holds: step, layout, config, history, tensors.",
                         .forms = "slipway checkpoint inspect PATH [--json]",
                         .example = "slipway checkpoint inspect runs/a",
                         .notes = kPath};
constexpr Usage kDiff{
    .summary = "Compares two checkpoints bit by bit: weights, moments, step, data cursor, random streams.",
    .forms = "slipway checkpoint diff A B [--json]",
    .example = "slipway checkpoint diff runs/a runs/b",
    .notes = "A and B are checkpoint or run folders. Exit status 8 when they differ."};
constexpr Usage kConsolidate{.summary = "Writes the weights of all ranks to one safetensors file.",
                             .forms = "slipway checkpoint consolidate PATH --out FILE.safetensors",
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
struct ShowOptions : CheckpointOptions {
  Flag json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    CheckpointOptions::fields(self, visit);
    visit("json", self.json, "print one JSON object", ResumePolicy::kReporting);
  }
};

struct VerifyOptions : ShowOptions {
  Flag provenance;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    ShowOptions::fields(self, visit);
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
  std::future<std::string> hashing;  // SHA-256 takes as long as the rest: in a thread with its own CheckpointReader
  if (options.provenance)
    hashing = std::async(std::launch::async, [&folder = reader.folder()] {
      CheckpointReader values(folder, RecoveryHint::kNone);  // verify_all() reports damaged files
      return provenance_sha256(values);
    });
  reader.verify_all();
  const Manifest& manifest = reader.manifest();
  Json found = {{"ok", true},
                {"step", manifest.info.step},
                {"files", manifest.files.size() + 2},
                {"bytes", manifest.bytes()},
                {"tensors", manifest.tensors.size()}};
  if (options.provenance) found["provenance_sha256"] = hashing.get();
  if (options.json) {
    std::cout << to_line(found) << '\n';
    return 0;
  }
  std::cout << reader.folder().string() << ": good. Step " << manifest.info.step << ", " << manifest.tensors.size()
            << " tensors in " << manifest.files.size() + 2 << " files, "
            << human_bytes(static_cast<double>(manifest.bytes())) << " read in " << human_time(now_s() - start_s)
            << '\n';
  if (options.provenance) std::cout << "provenance sha256 " << found["provenance_sha256"].get<std::string>() << '\n';
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

int inspect(const std::string& path, const ShowOptions& options) {
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

/// A difference between two checkpoints: a sentence, and the same as JSON.
struct Difference {
  std::string message;
  Json json;
};

/// The first element, in order, whose bits differ.
std::optional<Difference> first_difference(CheckpointReader& a, CheckpointReader& b, const StoredTensor& tensor) {
  constexpr std::int64_t kBandElements = 4 << 20;  // of both at once: 32 MiB
  const auto [rows, cols] = rows_cols(tensor.shape);
  const std::int64_t band = std::clamp<std::int64_t>(kBandElements / cols, 1, rows);
  a.open_files(tensor);  // before memory is allocated for it
  std::vector<float> of_a(static_cast<std::size_t>(band * cols)), of_b(of_a.size());
  for (std::int64_t row = 0; row < rows; row += band) {
    const Slice part{tensor.name, tensor.kind, tensor.shape, {row, 0}, {std::min(band, rows - row), cols}};
    a.read(part, of_a.data(), cols);
    b.read(part, of_b.data(), cols);
    if (std::memcmp(of_a.data(), of_b.data(), static_cast<std::size_t>(part.size()) * sizeof(float)) == 0) continue;
    std::size_t i = 0;
    while (std::bit_cast<std::uint32_t>(of_a[i]) == std::bit_cast<std::uint32_t>(of_b[i])) ++i;
    std::vector<std::int64_t> index{row + static_cast<std::int64_t>(i) / cols, static_cast<std::int64_t>(i) % cols};
    if (tensor.shape.size() == 1) index.erase(index.begin());
    std::ostringstream values;
    values.precision(9);  // enough to tell any two floats apart
    values << of_a[i] << " and " << of_b[i];
    return Difference{join(tensor.kind, " of ", tensor.name, " differs at ", shape_text(index), ": ", values.str()),
                      {{"what", "number"},
                       {"kind", tensor.kind},
                       {"tensor", tensor.name},
                       {"index", index},
                       {"a", of_a[i]},
                       {"b", of_b[i]}}};
  }
  return std::nullopt;
}

/// Step, cursor and random streams first, then every tensor; times, hosts, layout, build and losses are not compared.
std::optional<Difference> first_difference(CheckpointReader& a, CheckpointReader& b) {
  const auto differ = [](const std::string& what, const Json& of_a, const Json& of_b) {
    return Difference{join("the ", what, " differs: ", of_a.dump(), " and ", of_b.dump()),
                      {{"what", what}, {"a", of_a}, {"b", of_b}}};
  };
  if (a.info().step != b.info().step) return differ("step", a.info().step, b.info().step);
  const auto cursor = [](const CheckpointReader& reader) { return reader.info().data.value("cursor", Json()); };
  if (cursor(a) != cursor(b)) return differ("data cursor", cursor(a), cursor(b));
  if (a.info().random != b.info().random)
    return differ("state of the random streams", a.info().random, b.info().random);

  for (const auto& [here, there, which] : {std::tuple(&a, &b, "second"), std::tuple(&b, &a, "first")})
    for (const StoredTensor& tensor : here->tensors())
      if (there->find(tensor.name, tensor.kind) == nullptr)
        return Difference{join("the ", which, " has no ", tensor.kind, " of ", tensor.name),
                          {{"what", "tensor"}, {"kind", tensor.kind}, {"tensor", tensor.name}, {"missing_in", which}}};
  log::Progress progress("diff");
  std::size_t done = 0;
  for (const StoredTensor& tensor : a.tensors()) {
    progress(static_cast<double>(done++), static_cast<double>(a.tensors().size()));
    const StoredTensor& other = *b.find(tensor.name, tensor.kind);
    if (tensor.shape != other.shape) return differ(join("shape of ", tensor.name), tensor.shape, other.shape);
    if (const auto difference = first_difference(a, b, tensor)) return difference;
  }
  return std::nullopt;
}

int diff(const std::string& path_a, const std::string& path_b, const ShowOptions& options) {
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
  std::vector<SafeTensor> plan;
  std::vector<const StoredTensor*> order;
  for (const StoredTensor& tensor : reader.tensors()) {
    if (tensor.kind != "value") continue;
    plan.push_back({.tensor = {tensor.name, tensor.shape}});
    order.push_back(&tensor);
  }
  const CheckpointInfo& info = reader.info();
  log::Progress hashing("provenance hash");
  const std::string provenance = provenance_sha256(reader, std::ref(hashing));
  const std::map<std::string, std::string> metadata{{"format", "pt"},
                                                    {"slipway.provenance_sha256", provenance},
                                                    {"slipway.run_id", info.run_id},
                                                    {"slipway.step", std::to_string(info.step)},
                                                    {"slipway.architecture", info.architecture.dump()}};
  log::Progress progress("consolidate");
  write_safetensors(options.out, metadata, plan, [&](std::size_t index, const ByteSink& sink) {
    progress(static_cast<double>(index), static_cast<double>(plan.size()));
    reader.stream(*order[index], [&](std::span<const float> numbers) { sink(std::as_bytes(numbers)); });
  });
  log::info(join("wrote ", plan.size(), " tensors of step ", info.step, " to ", options.out));
  std::cout << "provenance sha256 " << provenance << '\n';
  return 0;
}

template <class Options>
bool read_options(Options& options, const Arguments& arguments, const Usage& usage) {
  Fields fields;
  fields.add(options);
  return read_arguments(fields, arguments, usage);
}

constexpr char kWanted[] = "one PATH before the options: a checkpoint folder or a run folder";

int run_verify(const Arguments& arguments) {
  VerifyOptions options;
  return read_options(options, arguments, kVerify) ? verify(arguments.target(kWanted), options) : 0;
}

int run_inspect(const Arguments& arguments) {
  ShowOptions options;
  return read_options(options, arguments, kInspect) ? inspect(arguments.target(kWanted), options) : 0;
}

int run_diff(const Arguments& arguments) {
  ShowOptions options;
  if (!read_options(options, arguments, kDiff)) return 0;
  const std::vector<std::string>& paths = arguments.targets;
  if (paths.size() != 2)
    throw Error(
        Fault::kConfig,
        join("checkpoint diff compares two checkpoints, A and B, named before the options; found ", paths.size()));
  return diff(paths[0], paths[1], options);
}

int run_consolidate(const Arguments& arguments) {
  ConsolidateOptions options;
  return read_options(options, arguments, kConsolidate) ? consolidate(arguments.target(kWanted), options) : 0;
}

constexpr Subcommand kCheckpointForms[] = {{"verify", kVerify, run_verify},
                                           {"inspect", kInspect, run_inspect},
                                           {"diff", kDiff, run_diff},
                                           {"consolidate", kConsolidate, run_consolidate}};

}  // namespace

int command_checkpoint(const Arguments& arguments) { return run_subcommand("checkpoint", kCheckpointForms, arguments); }

}  // namespace slipway
