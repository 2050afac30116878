// The tokenizer of a Hugging Face folder: tokenizer.json and the other files that affect it.
#pragma once

#include <filesystem>

#include "src/data/tokenizer.hpp"

namespace slipway {

/// Reads `tokenizer.json`, and beside it, each where it is there:
/// - `tokenizer_config.json`: begin and end token, as a text or an object; `add_bos_token`, which wins over the
/// template
///   of tokenizer.json, as in llama.cpp's converter; `added_tokens_decoder`; the chat template;
/// - `special_tokens_map.json`: begin and end token, where tokenizer_config.json has no `added_tokens_decoder`; it then
///   wins over that file, as in transformers;
/// - `chat_template.jinja`, which wins over every other chat template;
/// - `generation_config.json`, else `config.json`: `eos_token_id`, one or a list; all of them end generation
///   (Tokenizer::end_of_generation_ids).
///
/// Errors   Fault::kStorage, one sentence naming the file: as Tokenizer::load, and for what these files contradict.
Tokenizer read_hugging_face_tokenizer(const std::filesystem::path& folder);

/// Loads the tokenizer.json given to a command. If it is in a model's folder (beside a config.json), the folder's other
/// files are read too, so that the result is exactly that model's tokenizer.
/// Errors   as Tokenizer::load; of a model's folder as read_hugging_face_tokenizer.
Tokenizer load_tokenizer_file(const std::filesystem::path& file);

}  // namespace slipway
