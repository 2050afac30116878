// slipway export MODEL --out FILE.gguf|DIR: writes a model for other programs, then reopens, compares and runs it.
#include <algorithm>
#include <cmath>
#include <iostream>
#include <optional>

#include "launch/commands/command.hpp"
#include "launch/process/write_failures.hpp"
#include "src/core/clock.hpp"
#include "src/core/log.hpp"
#include "src/core/words.hpp"
#include "src/export/export.hpp"
#include "src/infer/generate.hpp"
#include "src/infer/loaded_model.hpp"
#include "src/infer/score.hpp"

namespace slipway {
namespace {

constexpr Usage kExportUsage{
    .summary =
        "Writes a model for other programs, reopens what was written, and compares weights, ids, logits and text.",
    .synopsis = "slipway export MODEL --out FILE.gguf|DIR [--type f32|f16|bf16|q8_0|q4_0|stored] [--json]",
    .example = "slipway export runs/a --out a.gguf --type q8_0",
    .notes =
        "MODEL is a run folder, a checkpoint folder, a .gguf or a Hugging Face folder.\n"
        "A name that ends in .gguf is written for llama.cpp;\n"
        "any other is a new folder for transformers (model.safetensors, config.json, tokenizer.json; f32, f16 or "
        "bf16)."};

constexpr float kLogitTolerance = 1e-3f;  // of an f32 export, by docs/formats/gguf.md; equal weights give equal logits
constexpr std::size_t kMaxProbeIds = 64;  // the model runs on at most so many ids of the probe
constexpr int kGreedyIds = 16;
constexpr char kProbeText[] =
    "def area(radius):\n    return 3.14159 * radius ** 2  # km²\n\nThe river, 1,200 miles long, didn't freeze; naïve "
    "日本語 🙂\n";

struct ExportOptions {
  Flag json;
  std::string out;
  std::string type = "f32";

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("json", self.json, "print one JSON object", ResumePolicy::kReporting);
    visit("out", self.out, {"a .gguf file for llama.cpp, or a new folder for transformers", "FILE.gguf|DIR"},
          ResumePolicy::kReporting);
    visit("type", self.type, {"type of the matrices; stored: of each as MODEL has it", "f32|f16|bf16|q8_0|q4_0|stored"},
          ResumePolicy::kReporting);
  }
};

/// The probe text, followed by every added token of the tokenizer, separated by other text.
std::string make_probe(const Tokenizer& tokenizer) {
  constexpr std::size_t kMaxTokensPerKind = 512;  // no published tokenizer has more, except for reserved ones
  std::string probe = kProbeText;
  const Tokenizer::Parts& parts = tokenizer.parts();
  for (const std::vector<int>* ids : {&parts.user_defined, &parts.special_tokens})
    for (const int id : std::span(*ids).first(std::min(ids->size(), kMaxTokensPerKind)))
      probe += "x" + parts.tokens[static_cast<std::size_t>(id)] + " ";
  return probe;
}

/// Ids, logits and greedy continuation of the probe text by one model.
struct ProbeResult {
  std::vector<int> probe_ids;   ///< of the whole probe, with special tokens parsed, then again as plain text
  std::vector<int> ids;         ///< the beginning of the plain-text ids, on which the model was run
  std::vector<float> logits;    ///< [ids, vocabulary]
  std::vector<int> greedy_ids;  ///< the continuation of the first half of `ids`
  double nll_mean = 0;
};

ProbeResult run_probe(ModelBundle bundle, const LoadOptions& options) {
  LoadedModel loaded(std::move(bundle), options);
  ProbeResult result;
  const std::string probe = make_probe(loaded.tokenizer());
  result.probe_ids = encode_with_bos(loaded.tokenizer(), probe, /*parse_special=*/true);
  result.ids = encode_with_bos(loaded.tokenizer(), probe);
  result.probe_ids.insert(result.probe_ids.end(), result.ids.begin(), result.ids.end());
  const auto max_ids =  // at least 2, since a single token is never scored
      std::min(kMaxProbeIds, static_cast<std::size_t>(std::max(2, loaded.spec().context)));
  if (result.ids.size() > max_ids) result.ids.resize(max_ids);
  const auto token_nlls = token_nll(
      loaded.model(), result.ids, std::max(2, loaded.spec().context),
      [&](std::span<const float> logits) { result.logits.insert(result.logits.end(), logits.begin(), logits.end()); });
  result.nll_mean = make_score(loaded.tokenizer(), result.ids, token_nlls).mean_loss();

  Session session(loaded.model(), 1, std::min(static_cast<int>(max_ids) + kGreedyIds, loaded.spec().max_positions()));
  session.decode(std::span(result.ids).first(result.ids.size() / 2));
  for (int i = 0; i < kGreedyIds && session.length() < loaded.spec().context; ++i) {
    const std::span<const float> logits = session.logits();
    result.greedy_ids.push_back(static_cast<int>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    session.decode(std::span(result.greedy_ids).last(1));
  }
  return result;
}

struct Comparison {
  float largest_logit_difference = 0;
  double nll_original = 0, nll_exported = 0;
  bool greedy_equal = false;
};

/// Compares the probe results of the model and of the reopened export.
/// Errors   Fault::kStorage when ids differ, or logits or greedy ids of an f32 export do.
Comparison compare(const std::string& out, std::optional<TensorType> type, const ProbeResult& original,
                   const ProbeResult& exported) {
  if (original.probe_ids != exported.probe_ids || original.logits.size() != exported.logits.size())
    throw Error(
        Fault::kStorage,
        join(out, ": the reopened export turns the probe text into other ids than the model does; nothing was kept"));
  Comparison result{.nll_original = original.nll_mean,
                    .nll_exported = exported.nll_mean,
                    .greedy_equal = original.greedy_ids == exported.greedy_ids};
  for (std::size_t i = 0; i < original.logits.size(); ++i) {
    const float difference = std::fabs(original.logits[i] - exported.logits[i]);
    result.largest_logit_difference =
        std::max(result.largest_logit_difference, std::isnan(difference) ? INFINITY : difference);
  }
  const bool equal = result.largest_logit_difference <= kLogitTolerance && result.greedy_equal;
  if (type.value_or(TensorType::kF32) == TensorType::kF32 && !equal)
    throw Error(Fault::kStorage,
                join(out, ": the reopened export computes logits that differ by ", result.largest_logit_difference,
                     " (allowed ", kLogitTolerance, ") or another greedy text; nothing was kept"));
  return result;
}

void print(const ExportReport& report, const Comparison& comparison, const std::string& probe, double seconds,
           bool json) {
  if (json) {
    Json tensor_types = Json::object();
    for (const auto& [type, count] : report.tensor_types) tensor_types[std::string(name(type))] = count;
    std::cout << to_line({{"out", report.path.string()},
                          {"type", std::string(name(report.type))},
                          {"tensor_types", tensor_types},
                          {"bytes", report.bytes},
                          {"tensors", report.tensors},
                          {"parameters", report.parameters},
                          {"fallbacks", report.fallbacks},
                          {"write_seconds", report.write_s},
                          {"largest_weight_difference", report.largest_difference},
                          {"largest_weight_difference_at", report.largest_difference_tensor},
                          {"probe", probe},
                          {"ids_equal", true},
                          {"largest_logit_difference", comparison.largest_logit_difference},
                          {"greedy_equal", comparison.greedy_equal},
                          {"nll_given", comparison.nll_original},
                          {"nll_stored", comparison.nll_exported}})
              << '\n';
    return;
  }
  std::cout << report.path.string() << ": " << human_bytes(static_cast<double>(report.bytes)) << ", "
            << human_count(static_cast<double>(report.parameters)) << " parameters in " << report.tensors
            << " tensors as " << describe_types(report) << ", written and reopened in " << human_time(seconds) << '\n';
  for (const std::string& line : report.fallbacks) std::cout << "  fallback: " << line << '\n';
  if (report.largest_difference_tensor.empty()) std::cout << "weights: equal to the last bit\n";
  else
    std::cout << "weights: largest difference " << report.largest_difference << ", in "
              << report.largest_difference_tensor << '\n';
  std::cout << "probe (" << probe << "): same ids, largest logit difference " << comparison.largest_logit_difference
            << ", greedy text " << (comparison.greedy_equal ? "equal" : "not equal") << ", loss "
            << comparison.nll_original << " given and " << comparison.nll_exported << " stored (nats per token)\n";
}

}  // namespace

int command_export(const Arguments& arguments) {
  ExportOptions options;
  LoadOptions load;
  Fields fields;
  fields.add(options);
  fields.add(load);
  if (!read_arguments(fields, arguments, kExportUsage)) return 0;
  ignore_sigpipe();
  const std::string& model_path =
      arguments.positional("a model to export: a run folder, a checkpoint folder, a .gguf or a Hugging Face folder");
  if (options.out.empty()) throw Error(Fault::kConfig, "--out is missing; name a file FILE.gguf or a new folder");
  if (options.out.ends_with(".safetensors"))
    throw Error(
        Fault::kConfig,
        join("--out is ", options.out,
             ", but a safetensors export is a folder that also holds config.json and tokenizer.json; name a folder"));
  std::optional<TensorType> type;  // none: as stored
  if (options.type != "stored") type = tensor_type_of(options.type);

  const double start_s = now_s();
  const ModelBundle bundle = open_model(model_path, load.checkpoint);
  const bool is_gguf = options.out.ends_with(".gguf");
  const ProbeResult original = run_probe(bundle, load);
  Comparison comparison;
  // Runs before the export gets its final name, so that a failure leaves nothing behind.
  const auto verify_export = [&](const std::filesystem::path& exported_path) {
    comparison = compare(options.out, type, original,
                         run_probe(is_gguf ? open_gguf(exported_path) : open_hugging_face(exported_path), load));
  };
  const auto write = is_gguf ? export_gguf : export_hugging_face;
  const ExportReport report = write(bundle.spec, *bundle.tokenizer, *bundle.source, type, options.out, verify_export);
  const std::string probe = join("the first ", pluralize(original.ids.size(), "token"), " of a built-in text");
  print(report, comparison, probe, now_s() - start_s, options.json.on);
  return 0;
}

}  // namespace slipway
