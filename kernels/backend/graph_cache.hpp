// CUDA graphs of op sequences that are repeated with the same arguments: captured once, then launched as a whole.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "kernels/backend/graph_capture.hpp"
#include "src/core/profile.hpp"

namespace slipway {

/// Captured graphs, by a key. A graph saves the host's work for each op, which takes longer than a small op itself;
/// without a backend that captures, and while a profile is taken, ops run one by one.
class GraphCache {
 public:
  explicit GraphCache(const GraphCapture* graph_capture) : graph_capture_(graph_capture) {}
  ~GraphCache() {
    for (const auto& [key, captured] : graphs_) destroy(captured);
  }
  GraphCache(const GraphCache&) = delete;
  GraphCache& operator=(const GraphCache&) = delete;

  /// What the ops' arguments depend on that may differ while no memory is taken or given back.
  using Key = std::vector<std::uint64_t>;

  /// Runs `ops`, which must launch the same ops with the same arguments whenever the key is the same, and do nothing
  /// else: no copies from or to the host, no synchronization. The first call runs them eagerly, so that they allocate
  /// their memory; the second call captures them.
  template <class Ops>
  void run(const Key& key, const Ops& ops) {
    if (graph_capture_ == nullptr || profile::is_enabled()) return ops();
    CapturedGraph& captured = graphs_[key];
    if (captured.handle != nullptr && graph_capture_->replay(captured.handle)) return;
    if (captured.warmup_generation != graph_capture_->generation()) {
      ops();
      captured.warmup_generation = graph_capture_->generation();
      return;
    }
    destroy(std::exchange(captured, {.warmup_generation = captured.warmup_generation}));
    captured.handle = capture_graph(ops);
    graph_capture_->replay(captured.handle);
  }

 private:
  struct CapturedGraph {
    void* handle = nullptr;
    std::uint64_t warmup_generation = ~std::uint64_t{0};  ///< generation() after the ops had run one by one
  };
  template <class Ops>
  void* capture_graph(const Ops& ops) {
    graph_capture_->begin();
    try {
      ops();
    } catch (...) {
      graph_capture_->cancel();
      throw;
    }
    return graph_capture_->end();
  }
  void destroy(const CapturedGraph& captured) const noexcept {
    if (captured.handle != nullptr) graph_capture_->destroy(captured.handle);
  }

  const GraphCapture* graph_capture_;
  std::map<Key, CapturedGraph> graphs_;
};

}  // namespace slipway
