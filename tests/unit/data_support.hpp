// Shared by the data tests: a temporary folder, files, and a tokenizer of single bytes.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/error.hpp"
#include "src/core/file.hpp"
#include "src/data/prepare.hpp"
#include "tests/support/tiny_tokenizer.hpp"

namespace slipway::data_test {

namespace fs = std::filesystem;

/// A new folder in the system's temporary folder; the destructor removes it.
class TempFolder {
 public:
  TempFolder() {
    static int count = 0;
    path_ = fs::temp_directory_path() / join("slipway-data-", ::getpid(), "-", count++);
    fs::create_directories(path_);
  }
  ~TempFolder() { fs::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  operator const fs::path&() const { return path_; }  // NOLINT: implicit conversion to its path
  fs::path operator/(std::string_view name) const { return path_ / name; }

  /// Writes a file and returns its path.
  std::string write_file(const std::string& name, std::string_view bytes) const {
    const fs::path path = path_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
    return path.string();
  }

 private:
  fs::path path_;
};

constexpr int kBos = 256, kEos = 257, kVocabulary = 258;

/// A tokenizer whose ids are the bytes themselves, with BOS and EOS; `padding` more tokens widen the vocabulary.
inline Tokenizer byte_tokenizer(bool add_bos = false, int padding = 0) {
  Tokenizer::Parts parts{
      .pre = PreTokenizer::kGpt2, .special_tokens = {kBos, kEos}, .bos = kBos, .eos = kEos, .add_bos = add_bos};
  for (int byte = 0; byte < 256; ++byte) parts.tokens.push_back(test::byte_token(byte));
  parts.tokens.insert(parts.tokens.end(), {"<bos>", "<eos>"});
  for (int i = 0; i < padding; ++i) {
    parts.special_tokens.push_back(static_cast<int>(parts.tokens.size()));
    parts.tokens.push_back(join("<pad", i, ">"));
  }
  return Tokenizer::from_parts(std::move(parts));
}

/// All documents of the inputs.
inline std::vector<Document> read_all(const TextInputs& inputs, const TextConfig& config = {}) {
  TextSource source(inputs, config);
  std::vector<Document> documents;
  for (Document document; source.next(document);) documents.push_back(document);
  return documents;
}

/// Calls `check(offset)` with byte `offset` of the file changed, for every `stride`-th byte; then mends the file.
template <class Check>
void flip_bits(const fs::path& file, std::size_t stride, Check&& check) {
  const std::string good = read_file(file, Fault::kData);
  std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
  const auto write_byte = [&](std::size_t offset, char byte) {
    bytes.seekp(static_cast<std::streamoff>(offset)).put(byte).flush();
  };
  for (std::size_t offset = 0; offset < good.size(); offset += stride) {
    write_byte(offset, static_cast<char>(good[offset] ^ (1 << offset % 8)));
    check(offset);
    write_byte(offset, good[offset]);
  }
}

/// Expects that `work` throws an Error of `fault` whose message contains every word.
template <class Work>
void expect_error(Fault fault, const std::vector<std::string>& substrings, Work&& work) {
  try {
    work();
    ADD_FAILURE() << "nothing was thrown; expected a sentence with " << substrings.front();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), fault) << error.what();
    for (const std::string& substring : substrings)
      EXPECT_NE(std::string(error.what()).find(substring), std::string::npos)
          << "no '" << substring << "' in: " << error.what();
  }
}

}  // namespace slipway::data_test
