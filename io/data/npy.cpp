#include "io/data/npy.hpp"

#include "src/core/file.hpp"

namespace slipway {
namespace {

/// Magic, version 1.0, the header's length, and a Python literal padded so that the data begins on a multiple of 64.
std::string header(std::int64_t rows, std::int64_t cols) {
  constexpr std::size_t kAlignment = 64;
  constexpr std::size_t kPreambleBytes = 10;  // 6 bytes of magic, 2 of version, 2 of length
  std::string literal = join("{'descr': '<f4', 'fortran_order': False, 'shape': (", rows, ", ", cols, "), }");
  const std::size_t total = (kPreambleBytes + literal.size() + 1 + kAlignment - 1) / kAlignment * kAlignment;
  literal.resize(total - kPreambleBytes - 1, ' ');
  literal += '\n';
  std::string text("\x93NUMPY\x01\x00", 8);
  text += static_cast<char>(literal.size() & 0xff);
  text += static_cast<char>(literal.size() >> 8);
  return text + literal;
}

}  // namespace

void write_npy(const std::filesystem::path& path, std::int64_t rows, std::int64_t cols,
               const std::function<void(const RowSink&)>& produce_rows) {
  atomic_write_file_with(path, [&](const std::filesystem::path& temporary) {
    FileWriter file(temporary);
    file.write(header(rows, cols));
    std::int64_t row_count = 0;
    produce_rows([&](std::span<const float> row) {
      require(static_cast<std::int64_t>(row.size()) == cols,
              join("write_npy: a row of ", row.size(), " numbers, announced were ", cols));
      file.write(row.data(), row.size_bytes());
      ++row_count;
    });
    require(row_count == rows, join("write_npy: ", row_count, " rows, announced were ", rows));
    file.close();
  });
}

}  // namespace slipway
