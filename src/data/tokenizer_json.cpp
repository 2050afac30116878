#include "src/data/tokenizer_json.hpp"

#include <algorithm>
#include <map>

#include "io/model/gguf_layout.hpp"
#include "src/core/git_lfs.hpp"
#include "src/core/json.hpp"
#include "src/core/json_error.hpp"
#include "src/core/log.hpp"
#include "src/data/pre_tokenizer.hpp"
#include "src/data/text_format.hpp"
#include "src/data/unicode.hpp"

namespace slipway {
namespace {

using Parts = Tokenizer::Parts;
using SortedJson = nlohmann::json;  // Json looks up keys linearly: too slow for a vocabulary

// What GPT-2's pattern is called where the last alternative is left out: llama.cpp's form of it, and some files'.
constexpr std::string_view kGpt2PatternShort =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))";

/// Discarded when the text is not JSON, or nested so deeply that a copy would exhaust the stack.
SortedJson parse(const std::string& text) {
  if (json_depth(text) > kMaxJsonDepth) return SortedJson(SortedJson::value_t::discarded);
  return SortedJson::parse(text, nullptr, /*allow_exceptions=*/false);
}

/// Reads one document, naming it in every refusal.
class Reader {
 public:
  Reader(const std::string& text, const std::string& source_name) : source_name_(source_name) {
    if (text.starts_with(gguf_layout::kMagic))
      refuse("the file is a GGUF model, but a tokenizer.json is expected; slipway export ", source_name,
             " --out DIR writes one into DIR");
    if (text.starts_with(kGitLfsPrefix)) refuse("the file is ", kGitLfsDescription, "; ", kGitLfsHint);
    if (const int depth = json_depth(text); depth > kMaxJsonDepth)
      refuse("the JSON is nested ", depth, " deep, at most ", kMaxJsonDepth, " is expected");
    json_ = parse(text);
    if (json_.is_discarded()) {
      const JsonError error = find_json_error(text);
      refuse("not valid JSON (line ", error.line, ", column ", error.column, ": ", error.reason,
             "); a tokenizer.json is expected");
    }
    if (!json_.is_object() || !json_.contains("model") || !json_["model"].is_object())
      refuse("it has no \"model\" object; a tokenizer.json is expected");
  }

  Parts read() {
    try {
      read_pre_tokenizer();
      read_normalizer();
      read_decoder();
      read_model();
      read_added_tokens();
      check_ids();
      read_post_processor(member(json_, "post_processor"));
      read_extension();
    } catch (const SortedJson::exception& error) {
      refuse("it is not in the form of a tokenizer.json (", reason_of(error), ")");
    }
    return std::move(parts_);
  }

 private:
  template <class... Args>
  [[noreturn]] void refuse(const Args&... words) const {
    throw Error(Fault::kData, join(source_name_, ": ", words...));
  }

  /// The member, or null when it is absent.
  static const SortedJson& member(const SortedJson& object, const char* key) {
    static const SortedJson null;
    const auto found = object.find(key);
    return found == object.end() ? null : *found;
  }
  static bool get_bool(const SortedJson& object, const char* key, bool default_value = false) {
    return object.value(key, default_value);
  }
  static std::string type_of(const SortedJson& object) {
    return object.is_object() ? object.value("type", std::string("none")) : std::string("none");
  }

  /// The steps of a Sequence, or the one step.
  static std::vector<SortedJson> steps(const SortedJson& step, const char* key) {
    if (step.is_null()) return {};
    if (type_of(step) == "Sequence") return step.at(key).get<std::vector<SortedJson>>();
    return {step};
  }

  void read_pre_tokenizer() {
    std::string pattern;
    bool bytes = false, digits = false;
    for (const SortedJson& step : steps(member(json_, "pre_tokenizer"), "pretokenizers")) {
      const std::string type = type_of(step);
      if (type == "ByteLevel") {
        if (get_bool(step, "add_prefix_space", true))
          refuse("its pre-tokenizer adds a space before the text, which is not supported");
        if (get_bool(step, "use_regex", true)) pattern += pattern_of(PreTokenizer::kGpt2);
        bytes = true;
      } else if (type == "Digits" && !bytes && pattern.empty()) {
        if (!get_bool(step, "individual_digits"))
          refuse(
              "its pre-tokenizer keeps digits in runs (individual_digits is false); only digits one by one, as in "
              "smollm, are supported");
        digits = true;
      } else if (type == "Split" && !bytes) {
        if (step.value("behavior", "") != "Isolated" || get_bool(step, "invert"))
          refuse("its pre-tokenizer splits in the way '", step.value("behavior", ""), "'; only Isolated is supported");
        pattern += step.at("pattern").at("Regex").get<std::string>();
      } else {
        refuse("its pre-tokenizer has a step '", type,
               "'; only those of gpt-2, llama-bpe, qwen2, smollm and char are supported");
      }
    }
    if (pattern == kGpt2PatternShort) pattern = pattern_of(PreTokenizer::kGpt2);
    for (const PreTokenizer pre : {PreTokenizer::kGpt2, PreTokenizer::kLlamaBpe, PreTokenizer::kQwen2,
                                   PreTokenizer::kSmollm, PreTokenizer::kChar})
      if (pattern == pattern_of(pre) && bytes == (pre != PreTokenizer::kChar) &&
          digits == (pre == PreTokenizer::kSmollm)) {
        parts_.pre = pre;
        return;
      }
    refuse("its pre-tokenizer cuts text by '", pattern, digits ? "' with each digit apart" : "'",
           "; only the patterns of gpt-2, llama-bpe, qwen2, smollm and char are supported");
  }

  void read_normalizer() {
    for (const SortedJson& step : steps(member(json_, "normalizer"), "normalizers")) {
      if (type_of(step) != "NFC") refuse("its normalizer is '", type_of(step), "'; only NFC, or none, is supported");
      parts_.nfc = true;
    }
  }

  void read_decoder() {
    const std::string expected = parts_.pre == PreTokenizer::kChar ? "Fuse" : "ByteLevel";
    for (const SortedJson& step : steps(member(json_, "decoder"), "decoders"))
      if (type_of(step) != expected) refuse("its decoder is '", type_of(step), "'; only ", expected, " is supported");
  }

  void read_model() {
    const SortedJson& model = json_.at("model");
    const std::string type = model.value("type", std::string("BPE"));  // GPT-2's own file names none
    const std::string expected = parts_.pre == PreTokenizer::kChar ? "WordLevel" : "BPE";
    if (type != expected)
      refuse("its model is '", type, "', but with this pre-tokenizer only ", expected, " is supported");
    if (!model.at("vocab").is_object()) refuse("its vocabulary is not an object of tokens and ids");
    const SortedJson& added = member(json_, "added_tokens");
    max_ids_ = static_cast<std::int64_t>(model.at("vocab").size() + added.size());
    num_listed_ = max_ids_ - std::ranges::count_if(added, [&](const SortedJson& token) {
                    return model.at("vocab").contains(token.at("content").get<std::string>());
                  });
    for (const auto& [token, id] : model.at("vocab").items()) set_token(token, id);
    if (type == "WordLevel") return;

    if (!member(model, "dropout").is_null() && member(model, "dropout") != 0.0)
      refuse("its model drops merges at random (dropout), which is not supported");
    if (get_bool(model, "byte_fallback")) refuse("its model is not byte-level (byte_fallback), which is not supported");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (const SortedJson& affix = member(model, key); !affix.is_null() && affix != "")
        refuse("its model has a ", key, ", which is not supported");
    const bool llama = parts_.pre == PreTokenizer::kLlamaBpe;
    if (get_bool(model, "ignore_merges", llama) != llama)
      refuse("its ignore_merges is ", llama ? "false" : "true",
             ", but llama.cpp takes whole pieces unmerged for llama-bpe and for no other pre-tokenizer here, so the "
             "ids would differ");

    parts_.merges.reserve(model.at("merges").size());
    for (const SortedJson& merge : model.at("merges"))
      parts_.merges.push_back(merge.is_string()
                                  ? merge.get<std::string>()
                                  : merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>());
  }

  void read_added_tokens() {
    if (member(json_, "added_tokens").is_null()) return;
    for (const SortedJson& token : json_.at("added_tokens")) {
      const std::string content = token.at("content").get<std::string>();
      for (const char* key : {"single_word", "lstrip", "rstrip"})
        if (get_bool(token, key)) refuse("the added token '", content, "' has ", key, ", which is not supported");
      const int id = set_token(content, token.at("id"));
      (get_bool(token, "special") ? parts_.special_tokens : parts_.user_defined).push_back(id);
      if (parts_.nfc && get_bool(token, "normalized")) parts_.normalized.push_back(id);
    }
  }

  int set_token(const std::string& token, const SortedJson& id) {
    if (!id.is_number_integer() || id < 0)
      refuse("the token '", token, "' has id ", id.dump(), "; ids are counted from 0");
    if (id >= max_ids_)  // an absurd id must not allocate memory
      refuse("the token '", token, "' has id ", id.dump(), ", but only ", num_listed_,
             " tokens are listed; ids must leave no gap");
    if (token.empty())
      refuse("the content of the token with id ", id.dump(), " is empty; every token needs a text of its own");
    const auto index = id.get<std::size_t>();
    if (index >= parts_.tokens.size()) parts_.tokens.resize(index + 1);
    if (!parts_.tokens[index].empty() && parts_.tokens[index] != token)
      refuse("the tokens '", parts_.tokens[index], "' and '", token, "' share the id ", index,
             "; every token needs one of its own");
    parts_.tokens[index] = token;
    return static_cast<int>(index);
  }

  void check_ids() const {
    const auto gap = std::find(parts_.tokens.begin(), parts_.tokens.end(), "");
    if (gap != parts_.tokens.end())
      refuse("no token has id ", gap - parts_.tokens.begin(), ", but there are ids up to ", parts_.tokens.size() - 1,
             "; ids must leave no gap");
  }

  /// Only a template that puts one token before the text changes ids.
  void read_post_processor(const SortedJson& post_processor) {
    for (const SortedJson& step : steps(post_processor, "processors")) {
      const std::string type = type_of(step);
      if (type == "ByteLevel") continue;  // moves offsets, no ids
      if (type != "TemplateProcessing")
        refuse("its post-processor is '", type, "'; only ByteLevel and TemplateProcessing are supported");
      const SortedJson& single = step.at("single");
      const bool prepends_token = single.size() == 2 && single.at(0).contains("SpecialToken");
      if (!prepends_token && single.size() != 1)
        refuse("its post-processor adds other tokens than one before the text, which is not supported");
      if (!prepends_token) continue;
      const auto source_name = single.at(0).at("SpecialToken").at("id").get<std::string>();
      const SortedJson& ids = step.at("special_tokens").at(source_name).at("ids");
      if (ids.size() != 1) refuse("its post-processor puts ", ids.size(), " tokens before the text; one is supported");
      parts_.bos = checked_id(ids.at(0), "the token before the text");
      parts_.add_bos = true;
    }
  }

  /// Parts without a place in Hugging Face's format are in `model.slipway`, which its readers ignore.
  void read_extension() {
    const SortedJson& extension = member(json_.at("model"), "slipway");
    if (extension.is_null()) return;
    if (extension.contains("bos") && !parts_.add_bos) parts_.bos = checked_id(extension.at("bos"), "bos");
    for (const auto& [key, id] : {std::pair{"eos", &parts_.eos}, {"eot", &parts_.eot}, {"eom", &parts_.eom}})
      if (extension.contains(key)) *id = checked_id(extension.at(key), key);
    if (extension.contains("other_ends"))
      for (const SortedJson& id : extension.at("other_ends"))
        parts_.other_ends.push_back(checked_id(id, "a token that ends generation"));
    if (extension.contains("unused"))
      for (const SortedJson& id : extension.at("unused")) parts_.unused.push_back(checked_id(id, "an unused token"));
    parts_.chat_template = extension.value("chat_template", "");
  }

  /// An id that the tokenizer checks against its tokens.
  int checked_id(const SortedJson& id, const char* what) const {
    if (!id.is_number_integer() || id < 0 || id >= parts_.tokens.size())
      refuse("the id of ", what, " is ", id.dump(), ", but there are ", parts_.tokens.size(), " tokens");
    return id.get<int>();
  }

  const std::string& source_name_;
  SortedJson json_;
  Parts parts_;
  std::int64_t max_ids_ = 0;     // as many as there are entries in the file
  std::int64_t num_listed_ = 0;  // without the added tokens that also stand in the vocabulary
};

std::optional<int> find_token(const Parts& parts, std::string_view text) {
  const auto found = std::find(parts.tokens.begin(), parts.tokens.end(), text);
  if (found == parts.tokens.end()) return std::nullopt;
  return static_cast<int>(found - parts.tokens.begin());
}

/// The template that transformers applies when none is asked for by name: the only one, or the one called default.
std::string default_template(const SortedJson& chat, const std::string& source_name) {
  if (chat.is_null()) return "";
  if (chat.is_string()) return chat.get<std::string>();
  std::map<std::string, std::string> templates;
  const auto is_text = [](const SortedJson& object, const char* key) {
    return object.is_object() && object.contains(key) && object.at(key).is_string();
  };
  const auto refuse = [&](const SortedJson& found) {
    throw Error(Fault::kData, join(source_name, ": chat_template holds ", found.type_name(),
                                   R"(, expected a text, or a list of {"name": ..., "template": ...})"));
  };
  if (!chat.is_structured()) refuse(chat);
  for (const auto& [key, entry] : chat.items())
    if (chat.is_object() && entry.is_string()) templates[key] = entry;
    else if (chat.is_array() && is_text(entry, "name") && is_text(entry, "template"))
      templates[entry.at("name")] = entry.at("template");
    else refuse(entry);
  if (const auto found = templates.find("default"); found != templates.end()) return found->second;
  if (!templates.empty())
    log::warn(join(source_name, ": none of its ", templates.size(), " chat templates is called default ('",
                   templates.begin()->first, "', ...), so the model is kept without one"));
  return "";
}

Json pre_tokenizer_json(PreTokenizer pre) {
  const auto bytes = [](bool use_regex) {
    return Json{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
  };
  if (pre == PreTokenizer::kGpt2) return bytes(true);
  if (pre == PreTokenizer::kSmollm)
    return {{"type", "Sequence"},
            {"pretokenizers", Json::array({{{"type", "Digits"}, {"individual_digits", true}}, bytes(true)})}};
  const Json split = {
      {"type", "Split"}, {"pattern", {{"Regex", pattern_of(pre)}}}, {"behavior", "Isolated"}, {"invert", false}};
  if (pre == PreTokenizer::kChar) return split;
  return {{"type", "Sequence"}, {"pretokenizers", Json::array({split, bytes(false)})}};
}

Json post_processor_json(const Parts& parts) {
  const Json offsets = {
      {"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", false}, {"use_regex", true}};
  if (!parts.add_bos) return parts.pre == PreTokenizer::kChar ? Json() : offsets;
  const std::string& bos = parts.tokens[static_cast<std::size_t>(*parts.bos)];
  const auto token = [&](int type_id) { return Json{{"SpecialToken", {{"id", bos}, {"type_id", type_id}}}}; };
  const auto text = [](const char* id, int type_id) { return Json{{"Sequence", {{"id", id}, {"type_id", type_id}}}}; };
  const Json prepends_token = {
      {"type", "TemplateProcessing"},
      {"single", Json::array({token(0), text("A", 0)})},
      {"pair", Json::array({token(0), text("A", 0), token(1), text("B", 1)})},
      {"special_tokens", {{bos, {{"id", bos}, {"ids", Json::array({*parts.bos})}, {"tokens", Json::array({bos})}}}}}};
  if (parts.pre == PreTokenizer::kChar) return prepends_token;
  return {{"type", "Sequence"}, {"processors", Json::array({offsets, prepends_token})}};
}

Json model_json(const Parts& parts) {
  Json extension = Json::object();
  if (parts.bos) extension["bos"] = *parts.bos;
  if (parts.eos) extension["eos"] = *parts.eos;
  if (parts.eot) extension["eot"] = *parts.eot;
  if (parts.eom) extension["eom"] = *parts.eom;
  if (!parts.other_ends.empty()) extension["other_ends"] = parts.other_ends;
  if (!parts.unused.empty()) extension["unused"] = parts.unused;
  if (!parts.chat_template.empty()) extension["chat_template"] = parts.chat_template;

  Json vocabulary = Json::object();
  using Entries = Json::object_t::Container;  // appended to as to a list: its own insertion looks for equal keys first
  Entries& entries = vocabulary.get_ref<Json::object_t&>();
  for (std::size_t id = 0; id < parts.tokens.size(); ++id) entries.emplace_back(parts.tokens[id], id);

  if (parts.pre == PreTokenizer::kChar)
    return {{"type", "WordLevel"},
            {"slipway", extension},
            {"vocab", vocabulary},
            {"unk_token", parts.tokens[kCharUnknown]}};
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", parts.pre == PreTokenizer::kLlamaBpe},
          {"slipway", extension},
          {"vocab", vocabulary},
          {"merges", parts.merges}};
}

}  // namespace

Parts read_tokenizer_json(const std::string& text, const std::string& source_name) {
  return Reader(text, source_name).read();
}

void read_tokenizer_config(const std::string& text, const std::string& source_name, Parts& parts) {
  const SortedJson config = parse(text);
  if (!config.is_object())
    throw Error(Fault::kData,
                source_name + ": it is not a JSON object; mend it, or remove it to do without a chat template");
  const auto token = [&](const char* key) -> std::optional<int> {
    const auto found = config.find(key);
    if (found == config.end() || found->is_null()) return std::nullopt;
    const SortedJson& content = found->is_object() && found->contains("content") ? found->at("content") : *found;
    if (!content.is_string())
      throw Error(Fault::kData, join(source_name, ": ", key, " is ", content.type_name(), ", expected a token's text"));
    const std::optional<int> id = find_token(parts, content.get_ref<const std::string&>());
    if (!id) log::warn(join(source_name, ": ", key, " is ", content.dump(), ", which the tokenizer does not have"));
    return id;
  };
  if (!parts.bos) parts.bos = token("bos_token");
  if (!parts.eos) parts.eos = token("eos_token");
  if (const auto chat = config.find("chat_template"); chat != config.end() && parts.chat_template.empty())
    parts.chat_template = default_template(*chat, source_name);
}

void read_chat_template(const std::string& text, const std::string& source_name, Parts& parts) {
  if (!is_utf8(text)) throw Error(Fault::kData, join(source_name, ": it is not UTF-8; a chat template is text"));
  parts.chat_template = text;
}

void add_end_of_generation(Parts& parts, int id) {
  if (id == parts.eos || id == parts.eot || id == parts.eom ||
      std::ranges::find(parts.other_ends, id) != parts.other_ends.end())
    return;
  for (std::optional<int>* end : {&parts.eos, &parts.eot, &parts.eom})
    if (!*end) {
      *end = id;
      return;
    }
  parts.other_ends.push_back(id);
}

void guess_bos_eos(Parts& parts) {
  if (!parts.bos) parts.bos = find_token(parts, "<|begin_of_text|>");
  for (const char* text : {"<|end_of_text|>", "<|endoftext|>"})
    if (!parts.eos) parts.eos = find_token(parts, text);
}

std::string write_tokenizer_json(const Parts& parts) {
  std::vector<std::pair<int, bool>> added;  // id, is special
  for (const int id : parts.special_tokens) added.emplace_back(id, true);
  for (const int id : parts.user_defined) added.emplace_back(id, false);
  std::sort(added.begin(), added.end());
  Json added_tokens = Json::array();
  for (const auto& [id, special] : added)
    added_tokens.push_back({{"id", id},
                            {"content", parts.tokens[static_cast<std::size_t>(id)]},
                            {"single_word", false},
                            {"lstrip", false},
                            {"rstrip", false},
                            {"normalized", std::ranges::binary_search(parts.normalized, id)},
                            {"special", special}});
  return to_pretty(
      {{"version", "1.0"},
       {"truncation", nullptr},
       {"padding", nullptr},
       {"added_tokens", added_tokens},
       {"normalizer", parts.nfc ? Json{{"type", "NFC"}} : Json()},
       {"pre_tokenizer", pre_tokenizer_json(parts.pre)},
       {"post_processor", post_processor_json(parts)},
       {"decoder",
        parts.pre == PreTokenizer::kChar
            ? Json{{"type", "Fuse"}}
            : Json{{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
       {"model", model_json(parts)}});
}

std::vector<std::string> char_control_tokens() {
  std::vector<std::string> tokens = {"<|pad|>",    "<|unk|>",  "<|bos|>",       "<|eos|>",
                                     "<|system|>", "<|user|>", "<|assistant|>", "<|endofturn|>"};
  while (tokens.size() < 32) tokens.push_back(join("<|reserved_", tokens.size(), "|>"));
  return tokens;
}

}  // namespace slipway
