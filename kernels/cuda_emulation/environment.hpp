// Reads the order of threads or of streams from an environment variable.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <string_view>

namespace slipway::cuda_emulation {

/// The choice of one of several words, with the seed that follows "shuffled:".
struct Choice {
  int word = 0;  ///< index of the word
  std::uint64_t seed = 1;
};

/// The choice made by `variable`; the first word when it is not set. Ends the program when it is none of the words.
inline Choice choice_from_environment(const char* variable, std::initializer_list<std::string_view> words) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return {};
  Choice setting;
  for (const std::string_view word : words) {
    const std::string_view value = text;
    if (word != "shuffled" && value == word) return setting;
    if (word == "shuffled" && value.starts_with("shuffled:")) {
      char* end = nullptr;
      setting.seed = std::strtoull(text + word.size() + 1, &end, 10);
      if (*end == '\0' && end != text + word.size() + 1) return setting;
    }
    ++setting.word;
  }
  std::fprintf(stderr, "CUDA emulation: %s is '%s'; it is", variable, text);
  for (const std::string_view word : words)
    std::fprintf(stderr, " %.*s%s", static_cast<int>(word.size()), word.data(), word == "shuffled" ? ":SEED" : "");
  std::fputs("\n", stderr);
  std::exit(2);
}

}  // namespace slipway::cuda_emulation
