// slipway data prepare | verify | inspect
#include <iomanip>
#include <iostream>

#include "launch/command.hpp"
#include "src/core/clock.hpp"
#include "src/core/log.hpp"
#include "src/data/corpus.hpp"
#include "src/data/corpus_manifest.hpp"
#include "src/data/prepare.hpp"

namespace slipway {
namespace {

constexpr Usage kPrepare{
    .summary = "Encodes texts to a data folder of token shards, split into training and validation.",
    .forms = "slipway data prepare --tokenizer FILE --input PATH... [--glob PATTERN] [--lane NAME] --out DIR [--json]",
    .example = "slipway data prepare --tokenizer tokenizer.json --input texts --out data"};
constexpr Usage kVerify{.summary = "Reads every byte of a data folder and checks hashes, counts and the split.",
                        .forms = "slipway data verify DIR [--json]",
                        .example = "slipway data verify data"};
constexpr Usage kInspect{.summary = "Shows what a data folder holds.",
                         .forms = "slipway data inspect DIR [--json]",
                         .example = "slipway data inspect data"};

/// What the forms of this command take besides keys.
struct DataOptions {
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

struct ShowOptions {
  Flag json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("json", self.json, "print one JSON object");
  }
};

void print_row(const std::string& called, const Json& row) {
  std::cout << "  " << std::left << std::setw(22) << called << std::right << std::setw(10)
            << row.at("documents").get<std::int64_t>() << " documents" << std::setw(14)
            << row.at("tokens").get<std::int64_t>() << " tokens" << std::setw(12)
            << human_bytes(row.at("bytes").get<double>()) << "\n";
}

void print_table(const Json& manifest) {
  print_row("all", manifest);
  for (const auto& [split, facts] : manifest.at("splits").items()) {
    print_row(split, facts);
    for (const auto& [lane, tally] : facts.at("lanes").items()) print_row("  lane " + lane, tally);
    std::cout << "    " << facts.at("unique_tokens") << " of " << manifest.at("tokenizer").at("vocabulary")
              << " ids occur; entropy of a token " << facts.at("unigram_entropy_nats") << " nats, given the one before "
              << facts.at("bigram_entropy_nats") << " nats\n";
  }
  for (const auto& [reason, count] : manifest.at("skipped").items())
    std::cout << "  left out: " << count << " times " << reason << "\n";
  std::cout << "  corpus_sha256 " << manifest.at("corpus_sha256").get<std::string>() << "\n";
}

void print(const Json& manifest, bool as_json) {
  if (as_json) std::cout << to_line(manifest) << "\n";
  else print_table(manifest);
}

int prepare(const Arguments& arguments) {
  DataOptions options;
  TextInputs inputs;
  PrepareConfig config;
  Fields fields;
  fields.add(options);
  fields.add(inputs);
  fields.add(config);
  fields.alias("lane", "data.lane");
  if (!read_arguments(fields, arguments, kPrepare)) return 0;
  arguments.refuse_targets("data prepare");
  if (options.tokenizer.empty())
    throw Error(Fault::kConfig, "data prepare needs --tokenizer FILE; make one with slipway tokenizer train");
  if (options.out.empty()) throw Error(Fault::kConfig, "data prepare needs --out DIR, the folder to make");

  const Json manifest = prepare_corpus(inputs, config, Tokenizer::load(options.tokenizer), options.out);
  for (const auto& [reason, count] : manifest.at("skipped").items())
    log::warn(join("data: left out ", count, " times: ", reason, " (data.on_bad = skip)"));
  print(manifest, options.json.on);
  return 0;
}

int verify(const Arguments& arguments) {
  ShowOptions options;
  Fields fields;
  fields.add(options);
  if (!read_arguments(fields, arguments, kVerify)) return 0;
  const std::string& folder = arguments.target("one data folder DIR, as slipway data prepare made it");
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

int inspect(const Arguments& arguments) {
  ShowOptions options;
  Fields fields;
  fields.add(options);
  if (!read_arguments(fields, arguments, kInspect)) return 0;
  const std::string& folder = arguments.target("one data folder DIR, as slipway data prepare made it");
  Corpus::open(folder);  // a folder that cannot be opened is not shown as if it could
  print(read_corpus_manifest(folder), options.json.on);
  return 0;
}

constexpr Form kForms[] = {{"prepare", kPrepare, prepare}, {"verify", kVerify, verify}, {"inspect", kInspect, inspect}};

}  // namespace

int command_data(const Arguments& arguments) { return run_form("data", kForms, arguments); }

}  // namespace slipway
