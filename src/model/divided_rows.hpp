// Sequence parallelism: between products, tensor ranks divide the rows of the residual stream among themselves.
#pragma once

#include <cstdint>

#include <span>
#include <vector>

#include "comm/group.hpp"
#include "kernels/operand.hpp"

namespace slipway {

/// The rows of one pass. Products read and write all of them; norms, sums with the residual stream and what is kept of
/// it are every rank's own rows only, so a sum over ranks ends where each has its own (a reduce-scatter), and the
/// norm's narrower output is what reaches all (an all-gather). Where rows do not come out even, or ranks are no power
/// of two, every rank's own rows are all of them.
///
/// Rows lie in one part, or in two where messages travel beside products: then one part's do while the other one is
/// computed.
///
/// Ranks    what moves rows is collective over the tensor group.
/// Source   Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models", 2022, section 4.2.2.
class DividedRows {
 public:
  DividedRows(Group& tensor, int rows);

  /// How many of `rows` each of so many ranks calls its own.
  static std::int64_t own_of(std::int64_t rows, int ranks);

  int all() const { return rows_; }
  int own() const { return own_; }
  bool divided() const { return own_ < rows_; }
  /// Whether what this rank sums over its own rows belongs to the ranks' sum: where all have all rows, one counts.
  bool counts() const { return divided() || tensor_.rank() == 0; }

  /// Rows that travel together.
  struct Part {
    int first, count;          ///< among all rows
    int at;                    ///< where this rank's own of them begin, among all rows
    int own_first, own_count;  ///< and among its own rows, which lie one after the other

    template <class View>
    View all(const View& rows) const {
      return rows.view_rows(first, count);
    }
    template <class View>
    View own_among_all(const View& rows) const {
      return rows.view_rows(at, own_count);
    }
    template <class View>
    View own(const View& rows) const {
      return rows.view_rows(own_first, own_count);
    }
  };
  std::span<const Part> parts() const { return parts_; }

  /// Every rank's own rows of `all` reach all ranks.
  void gather(const Activation& all) const {
    for (const Part& part : parts_) gather(part, all);
  }
  /// This rank's own rows of `all` become the sum over ranks; those of others are then worth nothing.
  void sum(Matrix<float> all) const {
    for (const Part& part : parts_) sum(part, all);
  }

  /// gather() of all parts, and `act(part)` after each one's, beside the next one's.
  template <class Act>
  void gathered(const Activation& all, const Act& act) const {
    beside([&] { gather(parts_.front(), all); }, [] {});
    for (std::size_t i = 0; i < parts_.size(); ++i)
      beside(
          [&] {
            if (i + 1 < parts_.size()) gather(parts_[i + 1], all);
          },
          [&] { act(parts_[i]); });
  }
  /// `act(part)`, which writes a part of `all`, and sum() of it, beside the next one.
  template <class Act>
  void summed(Matrix<float> all, const Act& act) const {
    for (const Part& part : parts_) {
      act(part);
      tensor_.aside();
      sum(part, all);
    }
    tensor_.together();
  }
  /// `messages()` beside `ops()`, which do not touch what those move.
  template <class Messages, class Ops>
  void beside(const Messages& messages, const Ops& ops) const {
    tensor_.aside();
    messages();
    ops();
    tensor_.together();
  }

 private:
  void gather(const Part& part, const Activation& all) const;
  void sum(const Part& part, Matrix<float> all) const;

  Group& tensor_;
  int rows_, own_;
  std::vector<Part> parts_;
};

}  // namespace slipway
