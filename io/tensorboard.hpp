// TensorBoard event files with scalar curves (docs/formats/tensorboard.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "src/core/file.hpp"

namespace slipway {

/// Appends scalars to one event file of a folder. Each process creates a new file, so a resumed run adds a file, and
/// tensorboard shows them as one curve: the new file states from which step on events of older files are discarded.
class TensorBoardWriter {
 public:
  /// `first_step` is the first step of this process: tensorboard discards events of older files from that step on. 0 if
  /// the folder has no older files. Errors: Fault::kStorage when the folder or the file cannot be created.
  TensorBoardWriter(const std::filesystem::path& folder, std::int64_t first_step);

  /// Curves are grouped by the part of `tag` before the slash: "loss/train". Errors: Fault::kStorage.
  void add_scalar(std::string_view tag, double value, std::int64_t step);
  void flush();  ///< makes the events visible to a running tensorboard
  const std::filesystem::path& path() const { return path_; }

 private:
  void write_record(std::string_view event);
  std::filesystem::path path_;
  std::unique_ptr<FileWriter> file_;
};

/// CRC-32C (Castagnoli), the checksum of records. Source: RFC 3720, appendix B.4.
std::uint32_t crc32c(std::string_view bytes);

}  // namespace slipway
