// Gates that run the model: decoding, comparison with the exported model, loss and sample quality.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "src/core/random.hpp"
#include "src/core/words.hpp"
#include "src/eval/qa_gates.hpp"
#include "src/infer/generate.hpp"
#include "src/infer/score.hpp"
#include "src/infer/support.hpp"

namespace slipway::qa {
namespace {

constexpr int kPromptTokens = 16;
constexpr int kGreedyTokens = 24;
constexpr int kGoldenTokens = 64;
constexpr int kGreedyRuns = 3;
constexpr int kRandomTokens = 1024;  // for the loss of untrained weights, which does not depend on the text

/// Seeded random ids, so that gates that compare logits do not depend on a text.
std::vector<int> random_ids(int vocabulary, int count) {
  const Random random(/*seed=*/1, stream_of("qa/ids"));
  std::vector<int> ids;
  for (int i = 0; i < count; ++i)
    ids.push_back(
        static_cast<int>(random.uniform_int(static_cast<std::uint64_t>(vocabulary), static_cast<std::uint64_t>(i))));
  return ids;
}

/// A random prompt that leaves positions of the model for a continuation.
std::vector<int> random_prompt(const ModelSpec& model) {
  return random_ids(model.vocabulary, std::clamp(model.max_positions() / 2, 1, kPromptTokens));
}

/// Logits after each of `ids`, computed in one pass. Shapes: [T, V].
std::vector<float> compute_logits(Model& model, std::span<const int> ids) {
  const int T = static_cast<int>(ids.size()), V = model.spec().vocabulary;
  std::vector<float> logits(ids.size() * static_cast<std::size_t>(V));
  StagedDownload<float> device_logits;
  InferenceState state = model.make_state(1, T);
  model.infer(ids, state, {device_logits.buffer_for(logits, *model.backend().memory), T, V, V}, /*last_only=*/false);
  device_logits.finish();
  return logits;
}

double largest_difference(std::span<const float> a, std::span<const float> b) {
  require(a.size() == b.size(), "largest_difference: sizes disagree");
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(difference <= largest)) largest = difference;  // also true for NaN
    if (std::isnan(largest)) break;
  }
  return largest;
}

Measurement compare_ids(const std::vector<int>& a, const std::vector<int>& b, const std::string& origin) {
  int count = 0;
  std::string first = join("all ", a.size(), " equal ", origin);
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i] != b[i] && count++ == 0) first = join("token ", i, " is ", b[i], " ", origin, ", expected ", a[i]);
  return {static_cast<double>(count), first, {{"tokens", a.size()}, {"ids", a}}};
}

/// A temporary folder, removed with this object.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::filesystem::path& parent) {
    std::string pattern =
        ((parent.empty() ? std::filesystem::temp_directory_path() : parent) / "slipway-qa-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr)
      throw Error(Fault::kStorage, join("cannot make a temporary folder ", pattern, ": ", errno_message(),
                                        "; set TMPDIR to a folder that can be written"));
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Mean loss of a sample's tokens in nats, without the first token of each piece. Sets `tokens` to their number.
double mean_loss(LoadedModel& model, const std::vector<std::vector<int>>& pieces, std::int64_t& tokens) {
  double sum = 0;
  tokens = 0;
  for (const std::vector<int>& piece : pieces) {
    const int window = std::max(2, std::min(static_cast<int>(piece.size()), model.spec().max_positions()));
    for (const std::optional<float>& loss : token_nll(model.model(), piece, window))
      if (loss) sum += static_cast<double>(*loss), ++tokens;
  }
  if (tokens == 0) throw Error(Fault::kData, "the text has no two tokens in a row; give a longer one with --text");
  return sum / static_cast<double>(tokens);
}

Measurement measure_golden_output(LoadedModel& model, const std::optional<TextSample>& text) {
  std::vector<int> prompt;
  if (text && !text->pieces.empty())
    prompt.assign(text->pieces.front().begin(),
                  text->pieces.front().begin() + std::min<std::ptrdiff_t>(std::ssize(random_prompt(model.spec())),
                                                                          std::ssize(text->pieces.front())));
  if (prompt.empty()) prompt = encode_with_bos(model.tokenizer(), "The ");
  TextTokenMask text_mask(model.tokenizer(), model.spec().vocabulary);
  std::vector<int> ids = greedy_ids(model.model(), prompt, kGoldenTokens, text_mask.restrict({}));
  ids.erase(std::find_if(ids.begin(), ids.end(), [&](int id) { return model.tokenizer().is_end_of_generation(id); }),
            ids.end());
  const std::string output = model.tokenizer().decode(ids);
  std::vector<std::string> signals = gibberish_signals(output);
  if (output.empty()) signals.emplace_back("nothing was written");
  return {static_cast<double>(signals.size()),
          signals.empty() ? "reads like text" : signals.front(),
          {{"prompt", model.tokenizer().decode(prompt)}, {"output", output}}};
}

}  // namespace

std::vector<int> greedy_ids(Model& model, std::span<const int> prompt, int count, TokenMask allowed) {
  count = std::min(count, model.spec().max_positions() - static_cast<int>(prompt.size()));
  Session session(model, 1, static_cast<int>(prompt.size()) + count);
  Sampler sampler(model.backend(), {.temperature = 0});
  std::vector<int> ids;
  session.decode(prompt);
  for (int i = 0; i < count; ++i) {
    ids.push_back(sampler.next(session.device_logits(), static_cast<std::uint64_t>(i), allowed).front());
    session.decode(std::span(&ids.back(), 1));
  }
  return ids;
}

std::vector<std::string> gibberish_signals(std::string_view text) {
  std::vector<std::string> signals;
  std::size_t non_ascii = 0, replacements = 0, visible = 0;
  std::array<std::size_t, 256> counts{};
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    non_ascii += byte >= 0x80;
    if (byte > ' ') ++visible, ++counts[byte];
  }
  for (std::size_t at = text.find("\xef\xbf\xbd"); at != std::string_view::npos; at = text.find("\xef\xbf\xbd", at + 3))
    ++replacements;
  const std::size_t max_count = *std::max_element(counts.begin(), counts.end());
  if (2 * non_ascii > text.size()) signals.push_back(join(non_ascii, " of ", text.size(), " bytes are not ASCII"));
  if (32 * replacements > text.size()) signals.push_back(join(replacements, " U+FFFD in ", text.size(), " bytes"));
  if (visible >= 8 && 10 * max_count >= 9 * visible)
    signals.push_back(join(max_count, " of ", visible, " characters are the same"));
  for (std::size_t at = 0; at + 12 <= text.size(); ++at)
    for (std::size_t length = 4; at + 3 * length <= text.size(); ++length) {
      const std::string_view piece = text.substr(at, length);
      if (piece != text.substr(at + length, length) || piece != text.substr(at + 2 * length, length)) continue;
      if (piece.find_first_not_of(" \t\r\n") == std::string_view::npos) continue;  // repeated indentation is normal
      signals.push_back(join("'", piece, "' stands three times in a row"));
      return signals;
    }
  return signals;
}

void judge_decoding(Gates& gates, LoadedModel& model) {
  const std::vector<int> prompt = random_prompt(model.spec());
  gates.judge("logits_finite", Compare::kAtMost, "logits of a prompt that are NaN or Inf", [&]() -> Measurement {
    const std::vector<float> logits = compute_logits(model.model(), prompt);
    const auto bad = std::count_if(logits.begin(), logits.end(), [](float logit) { return !std::isfinite(logit); });
    return {static_cast<double>(bad), join(bad, " of ", logits.size()), {{"tokens", prompt.size()}}};
  });
  gates.judge("determinism", Compare::kAtMost, join("tokens that differ between ", kGreedyRuns, " greedy runs"), [&] {
    const std::vector<int> first = greedy_ids(model.model(), prompt, kGreedyTokens);
    Measurement worst;
    for (int run = 1; run < kGreedyRuns; ++run) {
      Measurement measurement = compare_ids(first, greedy_ids(model.model(), prompt, kGreedyTokens), "in another run");
      if (run == 1 || measurement.value > worst.value) worst = std::move(measurement);
    }
    return worst;
  });
  gates.judge(
      "incremental_decoding", Compare::kAtMost, "largest |logit of token by token - logit of one pass|",
      [&]() -> Measurement {
        const std::vector<float> full_logits = compute_logits(model.model(), prompt);
        const auto V = static_cast<std::size_t>(model.spec().vocabulary);
        Session session(model.model(), 1, static_cast<int>(prompt.size()));
        double largest = 0;
        for (std::size_t t = 0; t < prompt.size(); ++t) {
          session.decode(std::span(&prompt[t], 1));
          const double difference = largest_difference(session.logits(), std::span(full_logits).subspan(t * V, V));
          if (!(difference <= largest)) largest = difference;
        }
        return {largest, join("over ", prompt.size(), " tokens of ", V, " logits"), {{"tokens", prompt.size()}}};
      });
}

void judge_export(Gates& gates, LoadedModel& model, const QaOptions& options) {
  const char* const gate_ids[] = {"export_ids", "export_logits"};
  if (const std::string limitation = export_limitation(ModelFormat::kGguf, model.spec(), model.tokenizer());
      !limitation.empty()) {
    for (const char* id : gate_ids) gates.not_applicable(id, limitation);
    return;
  }
  if (!options.exporter) {
    for (const char* id : gate_ids) gates.not_evaluated(id, "no exporter was given");
    return;
  }
  const std::vector<int> prompt = random_prompt(model.spec());
  std::vector<int> exported_ids;
  std::vector<float> exported_logits;
  gates.judge("export_ids", Compare::kAtMost, "greedy tokens of the f32 GGUF that differ", [&] {
    const TemporaryFolder folder(options.scratch);
    const std::filesystem::path file = folder.path() / "model.gguf";
    options.exporter(model.bundle(), file);
    LoadedModel exported = load_model(file.string(), options.load);
    exported_logits = compute_logits(exported.model(), prompt);
    exported_ids = greedy_ids(exported.model(), prompt, kGreedyTokens);
    return compare_ids(greedy_ids(model.model(), prompt, kGreedyTokens), exported_ids, "from the export");
  });
  gates.judge("export_logits", Compare::kAtMost, "largest |logit - logit of the f32 GGUF|", [&]() -> Measurement {
    if (exported_logits.empty()) throw Error(Fault::kData, "the model could not be exported");
    const std::vector<float> logits = compute_logits(model.model(), prompt);
    return {largest_difference(logits, exported_logits),
            join("over ", logits.size(), " logits"),
            {{"tokens", prompt.size()}}};
  });
}

void judge_learning(Gates& gates, LoadedModel& model, const QaOptions& options) {
  const double uniform_loss = std::log(static_cast<double>(model.spec().vocabulary));
  std::int64_t tokens = 0;
  if (!options.untrained_reason.empty()) {
    gates.judge("loss_at_init", Compare::kAtMost, "|loss - ln vocabulary|", [&]() -> Measurement {
      std::vector<std::vector<int>> pieces = {random_ids(model.spec().vocabulary, kRandomTokens)};
      if (options.text) pieces = options.text->pieces;
      const double loss = mean_loss(model, pieces, tokens);
      return {std::abs(loss - uniform_loss),
              join("loss ", loss, ", ln vocabulary ", uniform_loss),
              {{"tokens", tokens}, {"loss", loss}, {"uniform", uniform_loss}}};
    });
    for (const char* id : {"loss_below_uniform", "loss_below_unigram", "golden_output"})
      gates.not_applicable(id, options.untrained_reason);
    return;
  }
  gates.not_applicable("loss_at_init", "it speaks of untrained weights");
  if (!options.text) {
    for (const char* id : {"loss_below_uniform", "loss_below_unigram"}) {
      const auto& verdicts_without_text = gates.policy().at(id).without_text;
      const auto verdict = verdicts_without_text.find(model.bundle().kind);
      const std::string explanation = "there is no text to measure on; give one with --text FILE or --data DIR";
      if (verdict != verdicts_without_text.end() && verdict->second == "not_applicable")
        gates.not_applicable(id, explanation);
      else gates.not_evaluated(id, explanation);
    }
  } else {
    double loss = 0;
    const auto judge_loss = [&](const char* id, const std::string& baseline_formula, double baseline,
                                const std::string& baseline_name) {
      gates.judge(id, Compare::kBelow, join("loss - ", baseline_formula), [&]() -> Measurement {
        if (tokens == 0) loss = mean_loss(model, options.text->pieces, tokens);
        return {loss - baseline,
                join("loss ", loss, ", ", baseline_name, " ", baseline, " nats a token, on ",
                     pluralize(tokens, "token"), " of ", options.text->source),
                {{"source", options.text->source}, {"tokens", tokens}, {"loss", loss}, {"baseline", baseline}}};
      });
    };
    judge_loss("loss_below_uniform", "ln vocabulary", uniform_loss, "ln vocabulary");
    judge_loss("loss_below_unigram", "nats of the unigram baseline", options.text->unigram_nats,
               options.text->baseline);
  }
  gates.judge("golden_output", Compare::kAtMost, "signs of gibberish in a greedy continuation",
              [&] { return measure_golden_output(model, options.text); });
}

}  // namespace slipway::qa
