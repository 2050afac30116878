// How the environment chooses an order of threads or of streams.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <string_view>

namespace slipway::cuda_emulation {

/// One of several words, with the seed that follows "shuffled:".
struct Wish {
  int word = 0;  ///< counted from the first
  std::uint64_t seed = 1;
};

/// The value of `variable`; the first word where it is not set. Ends the program where it is none of the words.
inline Wish wish_of(const char* variable, std::initializer_list<std::string_view> words) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return {};
  Wish wish;
  for (const std::string_view word : words) {
    const std::string_view given = text;
    if (word != "shuffled" && given == word) return wish;
    if (word == "shuffled" && given.starts_with("shuffled:")) {
      char* end = nullptr;
      wish.seed = std::strtoull(text + word.size() + 1, &end, 10);
      if (*end == '\0' && end != text + word.size() + 1) return wish;
    }
    ++wish.word;
  }
  std::fprintf(stderr, "CUDA emulation: %s is '%s'; it is", variable, text);
  for (const std::string_view word : words)
    std::fprintf(stderr, " %.*s%s", static_cast<int>(word.size()), word.data(), word == "shuffled" ? ":SEED" : "");
  std::fputs("\n", stderr);
  std::exit(2);
}

}  // namespace slipway::cuda_emulation
