// A group of ranks that act together: one interface for MPI, threads, NCCL, and one rank alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/core/dtype.hpp"
#include "src/core/tensor.hpp"

namespace slipway {

struct Backend;

/// How f32 all-reduces between GPUs sum.
enum class Reduction : std::uint8_t {
  kCanonical,  ///< in the order of the binary tree, whatever the number of ranks
  kLibrary,    ///< in NCCL's own order, which depends on the number of ranks
};

/// Ranks that call the same functions in the same order. Every sum has one order, whatever the number of ranks
/// (docs/numerics.md): ranks join in a binary tree, r with r^1 first, then r^2, then r^4.
///
/// Buffers must be in space(). on() returns the same ranks for buffers in another memory space.
///
/// Ranks    every function but rank() and size() is collective over the group.
/// Errors   Fault::kComm naming the call, the rank and the wait when a peer does not arrive (see start_watchdog).
class Group {
 public:
  explicit Group(Reduction reduction = Reduction::kCanonical) : reduction_(reduction) {}
  virtual ~Group() = default;
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const char* name() const = 0;  ///< "self", "threads", "mpi", "staged", "nccl"
  /// Which rank of the whole run a member is: for messages.
  virtual int world_rank(int member) const { return member; }
  Reduction reduction() const { return reduction_; }
  virtual MemorySpace& space() const { return host_memory(); }
  /// Whether calls only queue work for a device, so that they may be captured in a graph
  /// (kernels/backend/graph_capture.hpp).
  virtual bool is_async() const { return false; }
  /// Collectives of this group from here to end_overlap() may overlap with work queued elsewhere meanwhile, which must
  /// not access their buffers; where that cannot be, they come first. May be called again before end_overlap(): what
  /// was queued since then comes first.
  virtual void begin_overlap() {}
  virtual void end_overlap() {}

  /// The same ranks for buffers in the memory of `backend`: this group where that is its own space, else one that is
  /// created by the first call, which is collective, and lives as long as this.
  Group& for_backend(const Backend& backend);

  virtual void barrier() = 0;  ///< returns when every rank has called it
  /// `bytes` of `root` become those of every rank. All give the same `count`.
  virtual void broadcast(void* bytes, std::size_t count, int root) = 0;
  /// Every rank gives `count` bytes; `all` receives size() * count bytes in rank order.
  /// Aliasing `mine` may be this rank's own place in `all`, and overlaps it nowhere else.
  virtual void all_gather(const void* send, std::size_t count, void* receive) = 0;
  /// Exchanges `count` bytes with `peer` (which calls it too).
  virtual void send_recv(int peer, const void* send, void* receive, std::size_t count) = 0;

  // What follows is built from the above, once for all kinds of group.

  /// x becomes the tree-ordered sum over ranks, equal to the bit on all. Any size; sizes that are no power of two
  /// add in the same tree with missing leaves left out.
  void all_reduce_sum(std::span<float> x);
  /// As above over doubles.
  void all_reduce_sum(std::span<double> x);
  double all_reduce_max(double value);  ///< the largest of all ranks' values, on all
  std::int64_t all_reduce_sum(std::int64_t value);

  /// Recursive halving: afterwards `x` holds the tree-ordered sum in this rank's shard only.
  /// x.size() is a multiple of size(), which is a power of two. Returns the shard [first, first + count).
  /// Cost     each rank sends and receives x.size() * (1 - 1/size()) elements: the least possible.
  struct Range {
    std::size_t first = 0;
    std::size_t count = 0;
  };
  Range reduce_scatter_sum(std::span<float> x);
  /// The shard that reduce_scatter_sum leaves with `rank`.
  static Range shard_range(std::size_t total, int rank, int size);
  /// The reverse: every rank's shard reaches all ranks.
  void all_gather_shards(std::span<float> x);
  void all_gather_shards(std::span<Bf16> x);

  // On the host only.

  /// True only when every rank says true. Ranks agree before a step that only works when everyone takes part.
  bool all_agree(bool value);
  /// Every rank's text, in rank order.
  std::vector<std::string> all_gather_text(const std::string& text);
  /// Frees what sums keep between calls; the next one allocates it again.
  void free_scratch() { scratch_ = {}; }

 protected:
  /// `x += y`, element by element, in space(). The operands are the lower and the upper rank's values in either order,
  /// since f32 addition commutes.
  virtual void add(float* x, const float* y, std::size_t count);
  /// Within space(), in order with this group's messages.
  virtual void copy(void* to, const void* from, std::size_t bytes) { space().copy(to, from, bytes); }
  /// All-reduces `x` with the communication library's own algorithm. Returns false where there is no such library, or
  /// reduction() is canonical.
  virtual bool library_all_reduce(std::span<float>) { return false; }

 private:
  std::size_t chunk_bytes() const;
  template <class T>
  T* scratch(std::size_t count);
  void add(double* x, const double* y, std::size_t count);
  void add(std::int64_t* x, const std::int64_t* y, std::size_t count);
  template <class T>
  void reduce_leaves(T* x, std::size_t count, int leaves);
  template <class T>
  void tree_all_reduce(std::span<T> x);
  template <class T>
  void all_reduce_by_gather(std::span<T> x);
  template <class T>
  Range reduce_scatter_by_halving(std::span<T> x);
  template <class T>
  void all_gather_by_doubling(std::span<T> x);

  Reduction reduction_;
  Buffer<std::byte> scratch_;            // pieces of a peer's numbers, on their way into a sum
  std::unique_ptr<Group> device_group_;  // what on() made
};

/// The group of one.
std::unique_ptr<Group> make_self_group(Reduction reduction = Reduction::kCanonical);

/// Runs `work` on `size` threads, each with its own group member; rethrows the first error after all have ended.
/// A rank that throws ends the wait of the others (they throw Fault::kComm).
void run_thread_group(int size, const std::function<void(Group&)>& work);

}  // namespace slipway
