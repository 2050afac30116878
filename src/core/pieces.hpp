// Which parts of a range are in use.
#pragma once

#include <cstddef>
#include <map>
#include <optional>

namespace slipway {

/// Pieces of [0, size), each at a multiple of kGranule, the lowest that fits first. The same pieces taken and given
/// back in the same order lie at the same places: so what a dry run finds that it takes, a run takes.
class Pieces {
 public:
  static constexpr std::size_t kGranule = 512;  ///< as cudaMalloc's

  explicit Pieces(std::size_t size) { holes_[0] = size; }

  /// Where `bytes` are from now on in use; nothing where no hole is large enough.
  std::optional<std::size_t> take(std::size_t bytes);
  /// Returns how many bytes were in use from there.
  std::size_t give_back(std::size_t place);

  bool empty() const { return taken_.empty(); }
  std::size_t top() const { return top_; }  ///< the end of the highest piece that there was since restart_top()
  void restart_top();

 private:
  std::map<std::size_t, std::size_t> holes_, taken_;  // where each begins, and its bytes
  std::size_t top_ = 0;
};

}  // namespace slipway
