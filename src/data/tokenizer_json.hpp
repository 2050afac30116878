// Reads and writes Hugging Face's tokenizer.json. A tokenizer whose ids Slipway cannot reproduce exactly is refused.
#pragma once

#include <filesystem>
#include <string>

#include "src/data/tokenizer.hpp"

namespace slipway {

/// Errors   Fault::kData naming `source_name` and what is wrong or not supported.
Tokenizer::Parts read_tokenizer_json(const std::string& text, const std::string& source_name);

/// Takes end token, begin token and chat template from a `tokenizer_config.json` where `parts` has none of its own.
/// Errors   Fault::kData naming `source_name`.
void read_tokenizer_config(const std::string& text, const std::string& source_name, Tokenizer::Parts& parts);

/// Takes the chat template from a `chat_template.jinja`, which wins over every other place, as in transformers.
/// Errors   Fault::kData naming `source_name` when it is not UTF-8.
void read_chat_template(const std::string& text, const std::string& source_name, Tokenizer::Parts& parts);

std::string write_tokenizer_json(const Tokenizer::Parts& parts);

/// One more token that ends generation: as eos, eot or eom where there is none of these yet, which a GGUF has keys for.
void add_end_of_generation(Tokenizer::Parts& parts, int id);

/// Where a file names no begin or end of text: the tokens that usually are. Called last.
void guess_bos_eos(Tokenizer::Parts& parts);

/// Ids 0..31 of a character tokenizer, as GroundThink has them: pad 0, unk 1, bos 2, eos 3, system 4, user 5,
/// assistant 6, endofturn 7, the others reserved. Characters follow.
std::vector<std::string> char_control_tokens();
constexpr int kCharUnknown = 1;  ///< the id of characters that training had not seen

}  // namespace slipway
