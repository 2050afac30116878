// Names of our keys in other trainers: nanoGPT, litgpt, Hugging Face's TrainingArguments, Megatron-LM, torchtitan,
// llm.c and llama.cpp. They are not accepted, since their units may differ; the error names the equivalent key.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

/// One line of the table; lists are separated by blanks.
struct Synonym {
  const char* names;  ///< theirs, in lower case and with underscores; a name with a dot counts only as a whole
  const char* keys;   ///< ours: the first one that the command has is meant
  const char* note;   ///< how the unit or meaning differs; may be empty
  const char* fallback_message;  ///< message where the command has none of the keys; may be empty
};

/// The line for `word`, whatever its case and dashes; where none has it as a whole, the line for what follows its last
/// dot ("train.seq_len"). Null when there is none.
const Synonym* find_synonym(std::string_view word);

std::span<const Synonym> synonyms();  ///< the table

std::vector<std::string> split_words(std::string_view list);  ///< cut at blanks

}  // namespace slipway
