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

struct KernelTable;

/// Ranks that call the same functions in the same order. Every sum has one order, whatever the number of ranks
/// (docs/numerics.md): ranks join in a binary tree, r with r^1 first, then r^2, then r^4.
///
/// What is passed lies in space(): for whom numbers lie elsewhere, in() has the same ranks.
///
/// Ranks    every function but rank() and size() is collective over the group.
/// Errors   Fault::kComm naming the call, the rank and the wait when a peer does not arrive (see set_watchdog).
class Group {
 public:
  virtual ~Group() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const char* name() const = 0;  ///< "self", "threads", "mpi", "staged", "nccl"
  /// Which rank of the whole run a member is: for messages.
  virtual int world_rank(int member) const { return member; }
  virtual MemorySpace& space() const { return host_memory(); }
  /// Whether calls do no more than queue work for a device, so that they may be recorded (kernels/recorder.hpp).
  virtual bool only_queues() const { return false; }
  /// What this group is asked from here to together() happens beside what others are asked meanwhile, which must not
  /// touch what it works on; where that cannot be, before it. May be called again for what was asked since.
  virtual void aside() {}
  virtual void together() {}

  /// The same ranks for numbers that `kernels` computes with: this group where those lie in its own space, else one
  /// that is made at the first call, which is collective, and lives as long as this.
  Group& in(const KernelTable& kernels);

  virtual void barrier() = 0;  ///< returns when every rank has called it
  /// `bytes` of `root` become those of every rank. All give the same `count`.
  virtual void broadcast(void* bytes, std::size_t count, int root) = 0;
  /// Every rank gives `count` bytes; `all` receives size() * count bytes in rank order.
  /// Aliasing `mine` may be this rank's own place in `all`, and overlaps it nowhere else.
  virtual void all_gather(const void* mine, std::size_t count, void* all) = 0;
  /// Exchanges `count` bytes with `peer` (which calls it too).
  virtual void exchange(int peer, const void* send, void* receive, std::size_t count) = 0;

  // What follows is built from the above, once for all kinds of group.

  /// x becomes the tree-ordered sum over ranks, equal to the bit on all. Any size; sizes that are no power of two
  /// add in the same tree with missing leaves left out.
  void all_reduce_sum(std::span<float> x);
  /// As above over doubles.
  void all_reduce_sum(std::span<double> x);
  double all_reduce_max(double value);  ///< the largest of all ranks' values, on all
  std::int64_t all_reduce_sum(std::int64_t value);

  /// Recursive halving: afterwards `x` holds the tree-ordered sum in this rank's owned piece only.
  /// x.size() is a multiple of size(), which is a power of two. Returns the owned range [first, first + count).
  /// Cost     each rank sends and receives x.size() * (1 - 1/size()) elements: the least possible.
  struct Range {
    std::size_t first = 0;
    std::size_t count = 0;
  };
  Range reduce_scatter_sum(std::span<float> x);
  /// Which piece reduce_scatter_sum leaves with `rank`.
  static Range owned_range(std::size_t total, int rank, int size);
  /// The reverse: every rank's owned piece reaches all ranks.
  void all_gather_owned(std::span<float> x);
  void all_gather_owned(std::span<Bf16> x);

  // For hosts alone.

  /// True only when every rank says true. Ranks agree before a step that only works when everyone takes part.
  bool all_agree(bool good);
  /// Every rank's text, in rank order.
  std::vector<std::string> all_gather_text(const std::string& mine);
  /// What sums keep between calls; the next one takes it anew.
  void give_back_scratch() { scratch_ = {}; }

 protected:
  /// x + y into x, element by element, in space(): the lower rank's numbers and the upper's, in either order, since f32
  /// addition commutes.
  virtual void add(float* x, const float* y, std::size_t count);
  /// Within space(), in order with this group's messages.
  virtual void copy(void* to, const void* from, std::size_t bytes) { space().copy(to, from, bytes); }
  /// The sum over ranks by a library that has a faster order of its own; false where there is none, or none is wanted.
  virtual bool sum_by_library(std::span<float>) { return false; }

 private:
  std::size_t piece_bytes() const;
  template <class T>
  T* scratch(std::size_t count);
  void add(double* x, const double* y, std::size_t count);
  void add(std::int64_t* x, const std::int64_t* y, std::size_t count);
  template <class T>
  void join_leaves(T* x, std::size_t count, int leaves);
  template <class T>
  void tree_sum(std::span<T> x);
  template <class T>
  void tree_sum_by_gather(std::span<T> x);
  template <class T>
  Range tree_sum_by_halving(std::span<T> x);
  template <class T>
  void gather_by_doubling(std::span<T> x);

  Buffer<std::byte> scratch_;         // pieces of a peer's numbers, on their way into a sum
  std::unique_ptr<Group> elsewhere_;  // what in() made
};

/// Whether sums of f32 over GPUs are NCCL's own, whose order depends on the number of ranks, instead of the tree's. For
/// this process; the tree's unless this was called.
void set_library_sums(bool wanted);
bool library_sums();

/// The group of one.
std::unique_ptr<Group> make_self_group();

/// Runs `work` on `size` threads, each with its own group member; rethrows the first error after all have ended.
/// A rank that throws ends the wait of the others (they throw Fault::kComm).
void run_thread_group(int size, const std::function<void(Group&)>& work);

}  // namespace slipway
