// slipway data prepare | verify | inspect
#include <algorithm>
#include <cmath>
#include <iomanip>
#include <iostream>
#include <map>

#include "launch/commands/command.hpp"
#include "launch/process/write_failures.hpp"
#include "src/core/clock.hpp"
#include "src/core/json_error.hpp"
#include "src/core/log.hpp"
#include "src/core/terminal.hpp"
#include "src/data/corpus.hpp"
#include "src/data/corpus_manifest.hpp"
#include "src/data/corpus_summary.hpp"
#include "src/data/hugging_face_tokenizer.hpp"
#include "src/data/prepare.hpp"

namespace slipway {
namespace {

constexpr Usage kPrepare{
    .summary = "Encodes texts to a data folder of token shards, split into training and validation.",
    .synopsis =
        "slipway data prepare --tokenizer FILE --input PATH... [--glob PATTERN] [--lane NAME] [--license SPDX]\n"
        "    --out DIR [--json]",
    .example = "slipway data prepare --tokenizer tokenizer.json --input texts --out data"};
constexpr Usage kDataVerify{.summary = "Reads every byte of a data folder and checks hashes, counts and the split.",
                            .synopsis = "slipway data verify DIR [--json]",
                            .example = "slipway data verify data"};
constexpr Usage kDataInspect{
    .summary = "Shows what a data folder holds: counts, document lengths, licenses, a few texts.",
    .synopsis = "slipway data inspect DIR [--rows N] [--json]",
    .example = "slipway data inspect data"};

/// Options of `data prepare` that are not keys.
struct PrepareOptions {
  std::string tokenizer;
  std::string out;
  Flag json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("tokenizer", self.tokenizer, {"tokenizer.json to encode with", "FILE"});
    visit("out", self.out, {"data folder to make; must not exist, or be empty", "DIR"});
    visit("json", self.json, "print one JSON object");
  }
};

struct DataVerifyOptions {
  Flag json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("json", self.json, "print one JSON object");
  }
};

struct InspectOptions {
  std::int64_t rows = 3;
  Flag json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("rows", self.rows, "show the text of this many documents per split; 0: none");
    visit("json", self.json, "print one JSON object: the manifest, with lengths and rows");
  }
};

void print_row(const std::string& label, const Json& row) {
  std::cout << "  " << std::left << std::setw(22) << label << std::right << std::setw(10)
            << row.at("documents").get<std::int64_t>() << " documents" << std::setw(14)
            << row.at("tokens").get<std::int64_t>() << " tokens" << std::setw(12)
            << human_bytes(row.at("bytes").get<double>()) << "\n";
}

/// Licenses of both splits together.
void print_licenses(const Json& manifest) {
  std::map<std::string, std::int64_t> documents;
  for (const auto& [split, stats] : manifest.at("splits").items())
    for (const auto& [license, tally] : stats.at("licenses").items())
      documents[license] += tally.at("documents").get<std::int64_t>();
  std::string list;
  for (const auto& [license, count] : documents)
    list += join(list.empty() ? "" : ", ", license.empty() ? "none named" : printable(license), " (",
                 count == 1 ? std::string("1 document") : join(count, " documents"), ")");
  std::cout << "  licenses: " << list << "\n";
}

void print_lengths(const Json& lengths) {
  constexpr double kBarWidth = 40;
  for (const auto& [split, lanes] : lengths.items()) {
    for (const auto& [lane, stats] : lanes.items()) {
      std::cout << "\n  " << split << ", lane " << lane << ": " << std::fixed << std::setprecision(2)
                << stats.at("bytes_per_token").get<double>() << " bytes a token; tokens a document: least "
                << stats.at("least") << ", median " << stats.at("median") << ", mean " << std::setprecision(1)
                << stats.at("mean").get<double>() << std::defaultfloat << ", 95 % at most " << stats.at("p95")
                << ", most " << stats.at("most") << "\n";
      std::int64_t highest = 1;
      for (const Json& bar : stats.at("histogram"))
        highest = std::max(highest, bar.at("documents").get<std::int64_t>());
      for (const Json& bar : stats.at("histogram")) {
        const auto documents = bar.at("documents").get<std::int64_t>();
        const double fraction = static_cast<double>(documents) / static_cast<double>(highest);
        const auto bar_length = static_cast<std::size_t>(std::ceil(fraction * kBarWidth));
        std::cout << std::setw(10) << bar.at("from").get<std::int64_t>() << " to " << std::left << std::setw(9)
                  << bar.at("to").get<std::int64_t>() << std::right << std::string(bar_length, '#')
                  << (bar_length > 0 ? " " : "") << documents << "\n";
      }
    }
  }
}

/// The beginning of a text on one line, with control characters escaped.
std::string to_single_line(const std::string& text) {
  constexpr std::size_t kMaxBytes = 240;
  std::size_t length = std::min(kMaxBytes, text.size());
  while (length > 0 && length < text.size() && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) --length;
  const std::string quoted = to_line(Json(text.substr(0, length)));
  return length < text.size() ? quoted + " ..." : quoted;
}

void print_texts(const Json& rows) {
  for (const Json& row : rows) {
    const std::string license = row.at("license");
    std::cout << "\n  " << row.at("split").get<std::string>() << " " << row.at("document") << ", lane "
              << row.at("lane").get<std::string>() << ", " << printable(row.at("origin").get<std::string>()) << ":"
              << row.at("line") << ", " << row.at("tokens") << " tokens"
              << (license.empty() ? "" : ", " + printable(license)) << "\n    "
              << to_single_line(row.at("segments").at(0).at("text").get<std::string>()) << "\n";
  }
}

void print_table(const Json& manifest) {
  print_row("all", manifest);
  for (const auto& [split, stats] : manifest.at("splits").items()) {
    print_row(split, stats);
    for (const auto& [lane, tally] : stats.at("lanes").items()) print_row("  lane " + lane, tally);
    std::cout << "    " << stats.at("unique_tokens") << " of " << manifest.at("tokenizer").at("vocabulary")
              << " ids occur; unigram entropy " << stats.at("unigram_entropy_nats") << " nats a token, bigram "
              << stats.at("bigram_entropy_nats") << "\n";
  }
  const Json empty = Json::object();
  for (const std::string& phrase : to_phrases(manifest.at("skipped"), manifest.value("skipped_first", empty)))
    std::cout << "  left out: " << phrase << "\n";
  for (const std::string& phrase : to_phrases(manifest.value("noted", empty), manifest.value("noted_first", empty)))
    std::cout << "  noted: " << phrase << "\n";
  print_licenses(manifest);
  std::cout << "  corpus_sha256 " << manifest.at("corpus_sha256").get<std::string>() << "\n";
}

void print(const Json& manifest, bool as_json) {
  if (as_json) std::cout << to_line(manifest) << "\n";
  else print_table(manifest);
}

int prepare(const Arguments& arguments) {
  PrepareOptions options;
  TextInputs inputs;
  PrepareConfig config;
  Fields fields;
  fields.add(options);
  fields.add(inputs);
  fields.add(config);
  fields.alias("lane", "data.lane");
  fields.alias("license", "data.license");
  if (!read_arguments(fields, arguments, kPrepare)) return 0;
  arguments.reject_positionals("data prepare");
  if (options.tokenizer.empty())
    throw Error(Fault::kConfig, "data prepare needs --tokenizer FILE; make one with slipway tokenizer train");
  if (options.out.empty()) throw Error(Fault::kConfig, "data prepare needs --out DIR, the folder to make");

  inputs.excluded = {options.tokenizer};
  ignore_sigpipe();
  const Json manifest = prepare_corpus(inputs, config, load_tokenizer_file(options.tokenizer), options.out);
  log_tallies("data", manifest.at("skipped"), manifest.at("skipped_first"), manifest.at("noted"),
              manifest.at("noted_first"));
  print(manifest, options.json.on);
  return 0;
}

int verify(const Arguments& arguments) {
  DataVerifyOptions options;
  Fields fields;
  fields.add(options);
  if (!read_arguments(fields, arguments, kDataVerify)) return 0;
  const std::string& folder = arguments.positional("one data folder DIR, as slipway data prepare made it");
  const Json manifest = verify_corpus(folder);
  if (options.json.on) {
    std::cout << to_line({{"verified", true},
                          {"corpus_sha256", manifest.at("corpus_sha256")},
                          {"documents", manifest.at("documents")},
                          {"tokens", manifest.at("tokens")}})
              << "\n";
  } else {
    std::cout << folder << ": good; every hash and count agrees, and no text is in both splits ("
              << manifest.at("documents") << " documents, " << manifest.at("tokens") << " tokens)\n";
  }
  return 0;
}

void print_inspection(Json manifest, const Json& lengths, const Json& rows, bool as_json) {
  if (as_json) {
    manifest["lengths"] = lengths;
    manifest["rows"] = rows;
  }
  print(manifest, as_json);
  if (as_json) return;
  print_lengths(lengths);
  print_texts(rows);
}

int inspect(const Arguments& arguments) {
  InspectOptions options;
  Fields fields;
  fields.add(options);
  if (!read_arguments(fields, arguments, kDataInspect)) return 0;
  if (options.rows < 0)
    throw Error(Fault::kConfig, join("--rows is ", options.rows, "; expected 0 or more documents of each split"));
  const std::string& folder = arguments.positional("one data folder DIR, as slipway data prepare made it");
  const Corpus corpus = Corpus::open(folder);  // fails for a damaged folder, before anything is printed
  const Json manifest = read_corpus_manifest(folder), lengths = summarize_lengths(corpus),
             rows = sample_rows(corpus, options.rows);
  try {
    print_inspection(manifest, lengths, rows, options.json.on);
  } catch (const nlohmann::json::exception& error) {  // a field that Corpus::open() does not read
    refuse_data(std::filesystem::path(folder) / kManifestFile, join("not as expected (", reason_of(error), ")"));
  }
  return 0;
}

constexpr Subcommand kDataSubcommands[] = {
    {"prepare", kPrepare, prepare}, {"verify", kDataVerify, verify}, {"inspect", kDataInspect, inspect}};

}  // namespace

int command_data(const Arguments& arguments) { return run_subcommand("data", kDataSubcommands, arguments); }

}  // namespace slipway
