#include "src/data/hugging_face_tokenizer.hpp"

#include <algorithm>
#include <charconv>
#include <map>

#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/core/log.hpp"
#include "src/data/tokenizer_json.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;
using Parts = Tokenizer::Parts;

[[noreturn]] void refuse(const std::string& source_name, const std::string& message) {
  throw Error(Fault::kStorage, join(source_name, ": ", message));
}

bool file_exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// The object in a file of the folder; an empty one where there is no such file.
Json read_object(const fs::path& path) {
  if (!file_exists(path)) return Json::object();
  Json json = read_json(path, Fault::kStorage);
  if (!json.is_object()) refuse(path.string(), "it is not a JSON object; take the file anew from where it came");
  return json;
}

/// The id that a key of `added_tokens_decoder` stands for, or -1.
int parse_id(const std::string& key) {
  int id = -1;
  const auto [end, reason] = std::from_chars(key.data(), key.data() + key.size(), id);
  return reason == std::errc{} && end == key.data() + key.size() ? id : -1;
}

/// Merges `added_tokens_decoder`, id by id: appends new tokens and updates the kinds of known ones.
class AddedTokensDecoder {
 public:
  AddedTokensDecoder(const std::string& source_name, Parts& parts) : source_name_(source_name), parts_(parts) {}

  void read(const Json& decoder) {
    if (decoder.is_null()) return;
    if (!decoder.is_object())
      refuse(source_name_,
             join("added_tokens_decoder is ", decoder.type_name(), ", expected an object of ids and tokens"));
    std::map<int, const Json*> by_id;
    for (const auto& [key, token] : decoder.items()) {
      const int id = parse_id(key);
      const bool is_token = token.is_object() && token.contains("content") && token["content"].is_string() &&
                            !token["content"].get_ref<const std::string&>().empty();
      if (id < 0 || !is_token)
        refuse(source_name_, join("added_tokens_decoder holds ", to_line(Json(key)), ": ", to_line(token),
                                  ", expected an id and a token with its content"));
      by_id[id] = &token;
    }
    for (const auto& [id, token] : by_id) add(id, *token);
  }

 private:
  static bool is_true(const Json& token, const char* key) { return token.contains(key) && token[key] == true; }

  void add(int id, const Json& token) {
    const auto content = token["content"].get<std::string>();
    for (const char* key : {"single_word", "lstrip", "rstrip"})
      if (is_true(token, key))
        refuse(source_name_, join("the added token '", content, "' has ", key, ", which is not supported"));
    const auto existing = std::ranges::find(parts_.tokens, content);
    if (existing == parts_.tokens.end() && id == std::ssize(parts_.tokens)) parts_.tokens.push_back(content);
    else if (existing == parts_.tokens.end() || existing - parts_.tokens.begin() != id)
      refuse(source_name_,
             join("the added token '", content, "' has the id ", id, ", but tokenizer.json ",
                  existing == parts_.tokens.end() ? join("has ", parts_.tokens.size(), " tokens and lacks it")
                                                  : join("gives it the id ", existing - parts_.tokens.begin()),
                  "; load the folder with transformers and save it again (save_pretrained)"));
    for (std::vector<int>* ids : {&parts_.special_tokens, &parts_.user_defined, &parts_.normalized})
      std::erase(*ids, id);
    (is_true(token, "special") ? parts_.special_tokens : parts_.user_defined).push_back(id);
    if (parts_.nfc && is_true(token, "normalized")) parts_.normalized.push_back(id);
  }

  const std::string& source_name_;
  Parts& parts_;
};

/// Makes a begin or end token that the files name a control token, even if tokenizer.json has it as an ordinary one.
void make_special(Parts& parts, std::optional<int> id) {
  const auto is_in = [&](const std::vector<int>& ids) { return std::ranges::find(ids, *id) != ids.end(); };
  if (id && !is_in(parts.special_tokens) && !is_in(parts.user_defined) && !is_in(parts.unused))
    parts.special_tokens.push_back(*id);
}

void read_bos_eos(const fs::path& folder, const Json& config, Parts& parts) {
  const fs::path path = folder / "tokenizer_config.json", map = folder / "special_tokens_map.json";
  const std::optional<int> template_bos = parts.bos, own_eos = parts.eos;  // of tokenizer.json
  const Json add_bos = config.value("add_bos_token", Json());
  if (!add_bos.is_null() && !add_bos.is_boolean())
    refuse(path.string(), join("add_bos_token is ", to_line(add_bos), ", expected true or false"));
  if (!add_bos.is_null()) parts.bos.reset();  // the named token wins over the template's

  const Json special_tokens_map = config.contains("added_tokens_decoder") ? Json::object() : read_object(map);
  if (!special_tokens_map.empty()) read_tokenizer_config(special_tokens_map.dump(), map.string(), parts);
  read_tokenizer_config(config.dump(), path.string(), parts);
  if (parts.add_bos || parts.bos != template_bos) make_special(parts, parts.bos);
  if (parts.eos != own_eos) make_special(parts, parts.eos);

  if (add_bos.is_null()) return;
  const bool prepends_bos =
      add_bos.get<bool>() && parts.bos.has_value();  // without such a token transformers adds none
  if (!parts.bos) parts.bos = template_bos;
  if (prepends_bos != parts.add_bos)
    log::warn(join(path.string(), ": add_bos_token is ", to_line(add_bos), ", but the template of tokenizer.json puts ",
                   parts.add_bos ? "a" : "no", " token before the text; texts begin ",
                   prepends_bos ? "with" : "without", " one, as in llama.cpp"));
  parts.add_bos = prepends_bos;
}

/// `eos_token_id` of generation_config.json, or of config.json where there is none: a number or a list.
void read_ends_of_generation(const fs::path& folder, Parts& parts) {
  const bool has_generation_config = file_exists(folder / "generation_config.json");
  const fs::path path = folder / (has_generation_config ? "generation_config.json" : "config.json");
  const Json value = read_object(path).value("eos_token_id", Json());
  if (value.is_null()) return;
  for (const Json& id : value.is_array() ? value : Json::array({value})) {
    if (!id.is_number_integer() || id < 0)
      refuse(path.string(), join("eos_token_id is ", to_line(value), ", expected the id of a token, or a list of ids"));
    if (id >= parts.tokens.size()) {
      log::warn(join(path.string(), ": eos_token_id has ", to_line(id), ", but there are ", parts.tokens.size(),
                     " tokens: that one never ends a text"));
      continue;
    }
    add_end_of_generation(parts, id.get<int>());
  }
}

Parts read_parts(const fs::path& folder) {
  const fs::path path = folder / "tokenizer.json", config_path = folder / "tokenizer_config.json",
                 chat_path = folder / "chat_template.jinja";
  if (!file_exists(path))
    refuse(folder.string(),
           join("tokenizer.json is missing",
                file_exists(folder / "tokenizer.model") ? ", and tokenizer.model alone is not read" : "",
                "; load the tokenizer with transformers and save it again (save_pretrained)"));
  Parts parts = read_tokenizer_json(read_file(path, Fault::kStorage), path.string());
  const Json config = read_object(config_path);
  const std::string source_name = config_path.string();
  AddedTokensDecoder(source_name, parts).read(config.value("added_tokens_decoder", Json()));
  read_bos_eos(folder, config, parts);
  if (file_exists(chat_path)) read_chat_template(read_file(chat_path, Fault::kStorage), chat_path.string(), parts);
  read_ends_of_generation(folder, parts);
  guess_bos_eos(parts);
  return parts;
}

}  // namespace

Tokenizer read_hugging_face_tokenizer(const fs::path& folder) {
  try {
    return Tokenizer::from_parts(read_parts(folder));
  } catch (const Error& error) {
    if (error.fault() != Fault::kData) throw;
    const std::string what = error.what();  // from_parts does not know where the parts came from
    throw Error(Fault::kStorage, what.starts_with(folder.string()) ? what : join(folder.string(), ": ", what));
  }
}

Tokenizer load_tokenizer_file(const fs::path& file) {
  const bool in_model_folder = file.filename() == "tokenizer.json" && file_exists(file.parent_path() / "config.json");
  if (!in_model_folder) return Tokenizer::load(file);
  return read_hugging_face_tokenizer(file.has_parent_path() ? file.parent_path() : fs::path("."));
}

}  // namespace slipway
