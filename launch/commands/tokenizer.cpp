// slipway tokenizer train | encode | decode
#include <algorithm>
#include <iostream>
#include <limits>

#include "launch/commands/command.hpp"
#include "launch/process/streams.hpp"
#include "launch/process/write_failures.hpp"
#include "src/core/clock.hpp"
#include "src/core/cpus.hpp"
#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/core/log.hpp"
#include "src/data/hugging_face_tokenizer.hpp"
#include "src/data/text_source.hpp"
#include "src/data/tokenizer.hpp"

namespace slipway {
namespace {

constexpr Usage kTrain{
    .summary = "Trains a byte-level BPE tokenizer, or a character tokenizer, on texts.",
    .synopsis =
        "slipway tokenizer train --input PATH... [--glob PATTERN] --tokenizer.vocabulary N\n"
        "    --tokenizer.pre gpt-2|llama-bpe|qwen2|smollm|char --out FILE [--json]",
    .example = "slipway tokenizer train --input texts --tokenizer.vocabulary 8192 --out tokenizer.json"};
constexpr Usage kEncode{.summary = "Encodes a text to token ids; adds no BOS or EOS.",
                        .synopsis = "slipway tokenizer encode --tokenizer FILE [--input FILE|-] [--json]",
                        .example = "echo hello | slipway tokenizer encode --tokenizer tokenizer.json --json"};
constexpr Usage kDecode{.summary = "Decodes a JSON list of token ids, or the object that encode prints, to text.",
                        .synopsis = "slipway tokenizer decode --tokenizer FILE [--input FILE|-] [--json]",
                        .example = "echo '[72, 105]' | slipway tokenizer decode --tokenizer tokenizer.json"};

struct TokenizerTrainOptions {
  std::string out;
  int threads = 0;
  Flag json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("out", self.out, {"tokenizer.json to write", "FILE"});
    visit("runtime.threads", self.threads, "threads; 0: one per core; the result is the same");
    visit("json", self.json, "print one JSON object");
  }
};

struct CodecOptions {
  std::string tokenizer;
  std::string input = "-";
  Flag special;
  Flag json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("tokenizer", self.tokenizer, {"tokenizer.json to use", "FILE"});
    visit("input", self.input, {"file to read; - is standard input", "FILE|-"});
    visit("special", self.special, "encode: parse special tokens in the text");
    visit("json", self.json, "print one JSON object");
  }
};

std::vector<std::string> read_texts(const TextInputs& inputs, const TextConfig& config) {
  TextSource source(inputs, config);
  log::Progress progress("tokenizer: reading");
  std::vector<std::string> texts;
  for (Document document; source.next(document);) {
    texts.push_back(std::move(document.text));
    progress(static_cast<double>(source.bytes_done()), static_cast<double>(source.bytes_total()));
  }
  log_tallies("tokenizer", source.skipped().counts_json(), source.skipped().places_json(),
              source.notices().counts_json(), source.notices().places_json());
  return texts;
}

int train(const Arguments& arguments) {
  TokenizerTrainOptions options;
  TextInputs inputs;
  TextConfig text_config;
  TokenizerConfig config;
  Fields fields;
  fields.add(options);
  fields.add(inputs);
  fields.add(config);
  fields.add(text_config);
  if (!read_arguments(fields, arguments, kTrain)) return 0;
  arguments.reject_positionals("tokenizer train");
  if (options.out.empty()) throw Error(Fault::kConfig, "tokenizer train needs --out FILE, the tokenizer.json to write");
  const std::filesystem::path folder = std::filesystem::absolute(options.out).parent_path();
  if (!std::filesystem::is_directory(folder))  // checked now, not after minutes of training
    throw Error(Fault::kStorage,
                join("--out ", options.out, ": there is no folder ", folder.string(), "; make it first"));
  check_thread_count(options.threads);
  text_config.check();
  pre_tokenizer_of(config.pre);  // a wrong name fails before the texts are read

  inputs.excluded = {options.out};  // may be left from an earlier run
  ignore_sigpipe();

  const double start_s = now_s();
  const std::vector<std::string> texts = read_texts(inputs, text_config);
  std::size_t bytes = 0;
  for (const std::string& text : texts) bytes += text.size();
  const int threads = options.threads > 0 ? options.threads : available_cpus();
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  if (texts.empty()) throw Error(Fault::kData, "no document is left to learn from: all input was left out as bad");
  const Tokenizer tokenizer = train_tokenizer(config, views, threads);
  atomic_write_file(options.out, tokenizer.to_json());

  const double elapsed_s = now_s() - start_s;
  if (options.json.on) {
    std::cout << to_line({{"tokenizer", options.out},
                          {"pre", config.pre},
                          {"vocabulary", tokenizer.vocabulary_size()},
                          {"merges", tokenizer.parts().merges.size()},
                          {"documents", texts.size()},
                          {"bytes", bytes},
                          {"sha256", tokenizer.sha256()},
                          {"seconds", elapsed_s}})
              << "\n";
  } else {
    std::cout << options.out << ": " << config.pre << ", " << tokenizer.vocabulary_size() << " ids with "
              << tokenizer.parts().merges.size() << " merges, from " << texts.size() << " documents ("
              << human_bytes(static_cast<double>(bytes)) << ") in " << human_time(elapsed_s) << "\n";
  }
  return 0;
}

std::string read_file_or_input(const std::string& path) {
  return path == "-" ? read_stdin() : read_file(path, Fault::kData);
}

Tokenizer load_tokenizer(const CodecOptions& options, const char* subcommand) {
  if (options.tokenizer.empty())
    throw Error(Fault::kConfig,
                join("tokenizer ", subcommand, " needs --tokenizer FILE; make one with slipway tokenizer train"));
  return load_tokenizer_file(options.tokenizer);
}

int encode(const Arguments& arguments) {
  CodecOptions options;
  Fields fields;
  fields.add(options);
  if (!read_arguments(fields, arguments, kEncode)) return 0;
  arguments.reject_positionals("tokenizer encode");
  const Tokenizer tokenizer = load_tokenizer(options, "encode");
  const std::vector<int> ids = tokenizer.encode(read_file_or_input(options.input), options.special.on);
  std::string line;
  for (const int id : ids) {
    if (!line.empty()) line += options.json.on ? ',' : ' ';
    line += std::to_string(id);
  }
  if (options.json.on) std::cout << "{\"ids\":[" << line << "]}\n";
  else std::cout << line << "\n";
  return 0;
}

/// A JSON list of ids, or an object with such a list as `ids`.
std::vector<int> read_ids(const std::string& text, const std::string& source_name) {
  const Json json = parse_json(text, {source_name}, Fault::kData);
  const Json& list = json.is_object() && json.contains("ids") ? json["ids"] : json;
  if (!list.is_array())
    throw Error(Fault::kData,
                source_name + ": expected a JSON list of token ids, or an object with such a list as \"ids\"");
  std::vector<int> ids;
  for (const Json& id : list) {
    if (!id.is_number_integer() || id.get<double>() < 0 || id.get<double>() > std::numeric_limits<int>::max())
      throw Error(Fault::kData,
                  join(source_name, ": ", to_line(id), " is no token id; expected whole numbers from 0 on"));
    ids.push_back(id.get<int>());
  }
  return ids;
}

int decode(const Arguments& arguments) {
  CodecOptions options;
  Fields fields;
  fields.add(options);
  if (!read_arguments(fields, arguments, kDecode)) return 0;
  arguments.reject_positionals("tokenizer decode");
  const Tokenizer tokenizer = load_tokenizer(options, "decode");
  const std::string text = tokenizer.decode(
      read_ids(read_file_or_input(options.input), options.input == "-" ? "standard input" : options.input));
  if (options.json.on) std::cout << to_line({{"text", text}}) << "\n";
  else std::cout.write(text.data(), static_cast<std::streamsize>(text.size()));
  return 0;
}

constexpr Subcommand kTokenizerSubcommands[] = {
    {"train", kTrain, train}, {"encode", kEncode, encode}, {"decode", kDecode, decode}};

}  // namespace

int command_tokenizer(const Arguments& arguments) {
  return run_subcommand("tokenizer", kTokenizerSubcommands, arguments);
}

}  // namespace slipway
