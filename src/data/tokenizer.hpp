// Text to token ids and back: byte-level BPE and characters, in the form of Hugging Face's tokenizer.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/config.hpp"

namespace slipway {

/// How text is split before merging. The names are llama.cpp's (`tokenizer.ggml.pre`).
enum class PreTokenizer { kGpt2, kLlamaBpe, kQwen2, kSmollm, kChar };
std::string_view name(PreTokenizer pre);                 ///< "gpt-2", "llama-bpe", "qwen2", "smollm", "char"
PreTokenizer pre_tokenizer_of(const std::string& name);  ///< Errors: Fault::kConfig listing the five

/// An immutable tokenizer; every function is thread-safe.
class Tokenizer {
 public:
  /// Errors   Fault::kData naming the file and what is wrong or not supported in it.
  static Tokenizer load(const std::filesystem::path& path);
  static Tokenizer from_json(const std::string& text, const std::string& source_name);
  /// From the parts that a GGUF holds (tokens and merges in the byte alphabet).
  struct Parts {
    PreTokenizer pre = PreTokenizer::kGpt2;
    std::vector<std::string> tokens;  ///< by id; byte alphabet, specials as plain text
    std::vector<std::string> merges;  ///< "left right", in rank order
    std::vector<int> special_tokens;  ///< ids of control tokens: text only where special text is asked for
    std::vector<int> user_defined;    ///< ids of tokens that are found in any text before it is cut (GGUF type 4)
    std::vector<int> normalized;      ///< of specials and user_defined: found in the text in NFC; empty without nfc
    std::vector<int> unused;          ///< ids that no text has (GGUF type 5): never found and never generated
    std::optional<int> bos, eos;
    std::optional<int> eot, eom;  ///< end of a turn and of a message: they end generation, too
    std::vector<int> other_ends;  ///< further tokens that end generation, without the three above
    bool add_bos = false;
    bool nfc = false;           ///< normalize to NFC before encoding
    std::string chat_template;  ///< Jinja; empty for none
  };
  static Tokenizer from_parts(Parts parts);

  const Parts& parts() const;   ///< for exports
  std::string to_json() const;  ///< tokenizer.json, byte for byte the same for the same tokenizer
  std::string sha256() const;   ///< of to_json(): identifies the tokenizer

  int vocabulary_size() const;  ///< ids are [0, vocabulary_size())
  std::optional<int> bos() const;
  std::optional<int> eos() const;                  ///< ends a document, and ends generation
  bool is_end_of_generation(int id) const;         ///< whether it is one of:
  std::vector<int> end_of_generation_ids() const;  ///< the ends of text, of a turn, of a message, then all others
  bool may_be_generated(int id) const;             ///< false for ids outside [0, vocabulary_size()) and for unused ones
  bool add_bos() const;
  bool is_special(int id) const;
  std::optional<int> id_of(std::string_view token) const;

  /// Ids of `text`. Special tokens are found in the text only when `parse_special`; no BOS or EOS is added.
  std::vector<int> encode(std::string_view text, bool parse_special = false) const;
  /// The bytes of the ids: decode(encode(x)) == x for any bytes (without NFC). Special tokens give their text.
  /// Errors   Fault::kData for an id outside the vocabulary.
  std::string decode(std::span<const int> ids) const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

/// Keys `tokenizer.*` of training.
struct TokenizerConfig {
  std::int64_t vocabulary = 16384;
  std::string pre = "gpt-2";
  std::int64_t min_frequency = 2;
  bool nfc = false;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("tokenizer.vocabulary", self.vocabulary,
          {"vocabulary size, special tokens included", "N", HelpVisibility::kFirst});
    visit("tokenizer.pre", self.pre,
          {"pre-tokenizer, or char: one token per character", "gpt-2|llama-bpe|qwen2|smollm|char",
           HelpVisibility::kFirst});
    visit("tokenizer.min_frequency", self.min_frequency, "merge only pairs that occur at least this often");
    visit("tokenizer.nfc", self.nfc, "normalize text to Unicode NFC before encoding");
  }
};

/// Trains a tokenizer on texts (documents; merges never cross one). Deterministic: equal texts in any order and any
/// number of threads give equal bytes.
/// Errors   Fault::kData when fewer merges than asked can be found, with the number reached.
Tokenizer train_tokenizer(const TokenizerConfig& config, std::span<const std::string_view> texts, int threads);

}  // namespace slipway
