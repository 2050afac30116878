// Sequence parallelism: between matmuls, the rows of the residual stream are sharded over tensor ranks.
#pragma once

#include <cstdint>

#include <span>
#include <vector>

#include "comm/group.hpp"
#include "kernels/tensor_view.hpp"

namespace slipway {

/// The rows of one pass. Matmuls read and write all of them (global rows); norms, residual additions and saved
/// activations cover this rank's shard only (local rows). Therefore sums over ranks are reduce-scattered, and the
/// norm's output, which is in the compute type, is all-gathered. Where the rows do not divide evenly, or the number of
/// ranks is not a power of two, every rank holds all rows.
///
/// The rows form one part, or two where communication overlaps with matmuls: one part is communicated while the other
/// is computed.
///
/// Ranks    what communicates is collective over the tensor group.
/// Source   Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models", 2022, section 4.2.2.
class SequenceParallel {
 public:
  SequenceParallel(Group& tensor, int rows);

  /// How many of `rows` each of `ranks` ranks holds.
  static std::int64_t local_rows_of(std::int64_t rows, int ranks);

  int global_rows() const { return global_rows_; }
  int local_rows() const { return local_rows_; }
  bool is_sharded() const { return local_rows_ < global_rows_; }
  /// Whether this rank adds its sum over local rows to the sum over ranks. Where all ranks hold all rows, only rank 0
  /// does.
  bool contributes() const { return is_sharded() || tensor_.rank() == 0; }

  /// Rows that are communicated together.
  struct Part {
    int first, count;              ///< index among global rows
    int shard_first;               ///< index of this rank's first row of the part, among global rows
    int local_first, local_count;  ///< this rank's rows of the part, as an index among local rows

    template <class View>
    View global(const View& rows) const {
      return rows.view_rows(first, count);
    }
    template <class View>
    View local_in_global(const View& rows) const {
      return rows.view_rows(shard_first, local_count);
    }
    template <class View>
    View local(const View& rows) const {
      return rows.view_rows(local_first, local_count);
    }
  };
  std::span<const Part> parts() const { return parts_; }

  /// All-gathers the local rows of `rows`.
  void all_gather(const TensorView& rows) const {
    for (const Part& part : parts_) all_gather(part, rows);
  }
  /// Replaces the local rows of `rows` by their sum over ranks; the other rows are undefined afterwards.
  void reduce_scatter(Matrix<float> rows) const {
    for (const Part& part : parts_) reduce_scatter(part, rows);
  }

  /// all_gather() of each part, then `fn(part)`, which overlaps with the all_gather() of the next part.
  template <class Fn>
  void overlap_all_gather(const TensorView& rows, const Fn& fn) const {
    overlap([&] { all_gather(parts_.front(), rows); }, [] {});
    for (std::size_t i = 0; i < parts_.size(); ++i)
      overlap(
          [&] {
            if (i + 1 < parts_.size()) all_gather(parts_[i + 1], rows);
          },
          [&] { fn(parts_[i]); });
  }
  /// `fn(part)`, which writes a part of `rows`, then its reduce_scatter(), which overlaps with the next `fn`.
  template <class Fn>
  void overlap_reduce_scatter(Matrix<float> rows, const Fn& fn) const {
    for (const Part& part : parts_) {
      fn(part);
      tensor_.begin_overlap();
      reduce_scatter(part, rows);
    }
    tensor_.end_overlap();
  }
  /// Overlaps `communicate()` with `compute()`, which must not access the same buffers.
  template <class Communicate, class Compute>
  void overlap(const Communicate& communicate, const Compute& compute) const {
    tensor_.begin_overlap();
    communicate();
    compute();
    tensor_.end_overlap();
  }

 private:
  void all_gather(const Part& part, const TensorView& rows) const;
  void reduce_scatter(const Part& part, Matrix<float> rows) const;

  Group& tensor_;
  int global_rows_, local_rows_;
  std::vector<Part> parts_;
};

}  // namespace slipway
