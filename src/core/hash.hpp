// Hashes: SHA-256 identifies content, XXH3-128 detects corrupted bytes.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "src/core/error.hpp"

namespace slipway {

/// SHA-256 over bytes given in pieces (FIPS 180-4, by OpenSSL).
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  Sha256& add(const void* bytes, std::size_t count);
  Sha256& add(std::string_view text) { return add(text.data(), text.size()); }
  std::string hex();  ///< 64 lower-case digits; ends this hash

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256_hex(std::string_view bytes);
std::string sha256_file(const std::filesystem::path& path, Fault fault);

/// XXH3-128 of a block, 32 lower-case digits: at memory speed; not cryptographic.
std::string xxh3_hex(const void* bytes, std::size_t count);

/// XXH3-128 over bytes given in pieces.
class Xxh3 {
 public:
  Xxh3();
  ~Xxh3();
  Xxh3(const Xxh3&) = delete;
  Xxh3& operator=(const Xxh3&) = delete;
  Xxh3& add(const void* bytes, std::size_t count);
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};
std::string xxh3_file(const std::filesystem::path& path, Fault fault);

}  // namespace slipway
