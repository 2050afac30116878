// Lanes: the kinds of documents, each in its own shards. The registry is configs/lanes.json.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

/// One kind of document. A document's lane is what its row or the command says, and is never guessed from a path.
struct Lane {
  std::string name;           ///< lower-case letters, digits, '-' and '_': it is part of a shard's file name
  std::string response_mode;  ///< code_only, prose_only, mixed or structured
  std::string meaning;
};

/// The lanes that exist.
class LaneRegistry {
 public:
  static LaneRegistry built_in();                               ///< configs/lanes.json as it was at build time
  static LaneRegistry load(const std::filesystem::path& path);  ///< Errors: Fault::kData, naming the file and the lane

  bool has(std::string_view name) const;
  std::string names() const;  ///< "text, code, docs", for sentences
  const std::vector<Lane>& all() const { return lanes_; }

 private:
  static LaneRegistry parse(std::string_view json, const std::filesystem::path& source_name);
  std::vector<Lane> lanes_;
};

}  // namespace slipway
