// TensorBoard event files: scalar curves that the real tensorboard draws (docs/formats/tensorboard.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "src/core/file.hpp"

namespace slipway {

/// Appends scalars to one event file of a folder. Each process makes a file of its own, so a resumed run adds a file,
/// and tensorboard shows them as one curve: the new file says from which step on the older ones no longer count.
class TensorBoardWriter {
 public:
  /// `first_step` is the first that this process may write: what older files have from there on no longer counts. 0: a
  /// folder without older files. Errors   Fault::kStorage when the folder or the file cannot be made.
  TensorBoardWriter(const std::filesystem::path& folder, std::int64_t first_step);

  /// `tag` groups by its part before the slash: "loss/train". Errors: Fault::kStorage.
  void scalar(std::string_view tag, double value, std::int64_t step);
  void flush();  ///< lets a running tensorboard see what was written
  const std::filesystem::path& path() const { return path_; }

 private:
  void record(std::string_view event);
  std::filesystem::path path_;
  std::unique_ptr<FileWriter> file_;
};

/// CRC-32C (Castagnoli), as records are guarded with. Source: RFC 3720, appendix B.4.
std::uint32_t crc32c(std::string_view bytes);

}  // namespace slipway
