// A document: one text, its license and its origin.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace slipway {

/// One text before tokenization. Attention and merges never cross document boundaries.
struct Document {
  std::string text;         ///< UTF-8, never empty
  std::string lane;         ///< a name of the lane registry (src/data/lanes.hpp)
  std::string license;      ///< as the row says; empty when it does not
  std::string source;       ///< kind of origin: corpus, docs, template, procedural, llm
  std::string origin_path;  ///< where the text came from: the row's own word, or the file's name below its input
  std::int64_t line = 1;    ///< line of the input file at which the text begins
};

/// Offset of the first byte that is not UTF-8 (surrogates and overlong forms included); npos when all is valid.
std::size_t find_invalid_utf8(std::string_view text);

}  // namespace slipway
