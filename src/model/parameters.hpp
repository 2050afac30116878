// The registry of parameters: one flat arena, and for every tensor its shape, shard, optimizer group and initializer.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/model/tensor_source.hpp"
#include "kernels/backend/backend.hpp"
#include "kernels/matmul.hpp"
#include "src/core/tensor.hpp"

namespace slipway {

/// The axis along which a tensor is sharded over tensor ranks.
enum class ShardAxis { kReplicated, kRows, kCols };

/// How a parameter is initialized (docs/numerics.md, "Initialization").
enum class Init { kNormal, kOnes, kZeros };

/// Optimizer settings of a group of parameters.
struct ParameterGroup {
  const char* name = "vectors";
  float lr_scale = 1;             ///< multiplies the scheduled learning rate
  bool use_weight_decay = false;  ///< takes part in weight decay
};
inline constexpr ParameterGroup kVectors{"vectors", 1, false};   ///< norms and biases
inline constexpr ParameterGroup kMatrices{"matrices", 1, true};  ///< everything that multiplies

/// One tensor as this rank holds it. A 1-D tensor has one row.
struct Parameter {
  std::string name;        ///< canonical: GGUF's names
  std::string component;   ///< "embedding", "attention", "ffn", "norm", "head": for parameter counts
  bool vector = false;     ///< 1-D
  int rows = 0, cols = 0;  ///< of the whole tensor, without padding
  ShardAxis shard = ShardAxis::kReplicated;
  int first = 0;                       ///< where this rank's part begins on the shard's axis
  int count = 0;                       ///< how much of that axis is here; the rest of the local extent is padding
  int local_rows = 0, local_cols = 0;  ///< on this rank, padding included (padding stays 0)
  bool keep_f32 = false;               ///< ops read it in f32 whatever the compute type: a vector, or a lookup table
  bool may_stay_quantized = true;      ///< may stay in q8_0 blocks when the file has it so; false: dequantized on load
  ParameterGroup group = kVectors;
  bool quantized = false;  ///< stored as q8_0 blocks in a separate arena; read-only
  bool trainable = true;   ///< false: frozen, without gradient and moments
  Init init = Init::kNormal;
  float init_std = 0;      ///< of kNormal
  std::size_t offset = 0;  ///< of its first element in its arena

  std::size_t local_size() const { return static_cast<std::size_t>(local_rows) * static_cast<std::size_t>(local_cols); }
  int unpadded_rows() const;  ///< local rows that are not padding
  int unpadded_cols() const;
  int first_row() const { return shard == ShardAxis::kRows ? first : 0; }  ///< of this shard, in the whole tensor
  int first_col() const { return shard == ShardAxis::kCols ? first : 0; }
  std::vector<std::int64_t> shape() const;  ///< of the whole tensor: [cols] of a vector, [rows, cols] of a matrix
};

/// A range of the arena that belongs to one parameter.
struct ParameterSlice {
  const Parameter* parameter = nullptr;
  std::size_t first = 0;  ///< in the arena
  std::size_t count = 0;
};

/// All parameters of this rank in one flat f32 arena, with their gradients and, when computing in bf16, a bf16 copy.
///
/// Trainable tensors come first in the arena; only these have gradients. Among them, and among the frozen ones,
/// replicated tensors come before those that are sharded over tensor ranks; in each group, tensors that ops read in f32
/// come first. The trainable and the frozen part are each padded to a multiple of slots x 16 elements, so that the
/// ranges of data ranks and the chunks of the gradient norm have fixed bounds.
class Parameters {
 public:
  using Handle = int;

  /// Elements that a tensor of `size` elements takes in the arena, where every tensor starts on a cache line.
  static std::size_t padded_size(std::size_t size);

  Handle add(Parameter parameter);  ///< before allocate()
  /// Freezes the parameters for which `should_freeze` returns true; before allocate().
  void freeze(const std::function<bool(const Parameter&)>& should_freeze);
  /// Lays out the arena and allocates it in `space`. Unsharded matrices that `quantized_source` has in q8_0 stay
  /// quantized (null: none).
  void allocate(int slots, DType compute_dtype, const TensorSource* quantized_source = nullptr,
                MemorySpace& space = host_memory());
  Handle find(const std::string& name) const;  ///< -1 when there is none

  /// Elements of each component in the whole model, in the order in which components were first added.
  std::vector<std::pair<std::string, std::int64_t>> component_sizes() const;

  std::span<const Parameter> all() const { return parameters_; }
  const Parameter& at(Handle handle) const { return parameters_[static_cast<std::size_t>(handle)]; }
  int slots() const { return slots_; }
  DType compute_dtype() const { return compute_dtype_; }

  MemorySpace& space() const { return values_.space(); }
  std::span<float> values() { return values_.span(); }
  std::span<const float> values() const { return values_.span(); }
  /// Elements at the front that are trainable.
  std::size_t trainable_size() const { return trainable_size_; }
  /// Elements at the front that are trainable and replicated on all tensor ranks. Their gradients are summed over these
  /// ranks.
  std::size_t replicated_size() const { return replicated_size_; }
  /// The trainable ranges [first, end) that ops read in f32; where matmuls compute in bf16, everything else is read in
  /// bf16 only.
  std::array<std::pair<std::size_t, std::size_t>, 2> f32_ranges() const {
    return {{{0, f32_ends_[0]}, {replicated_size_, f32_ends_[1]}}};
  }
  Matrix<float> value(Handle handle);
  ConstTensorView weight(Handle handle) const;  ///< as an operand of matmuls, in the compute type
  /// Rows [first, first + rows) as one matrix; they may extend into the adjacent() parameters that follow.
  ConstTensorView weight(Handle handle, int first, int rows) const;
  /// The same for a quantized parameter.
  QuantizedRows quantized(Handle handle, int first, int rows) const;
  /// Whether the two can be read as one matrix: `second` begins where `first` ends, with equally long rows, and both
  /// are trainable or both frozen.
  bool adjacent(Handle first, Handle second) const;

  /// Gradients of trainable parameters exist only in training. take_gradients() returns the buffer and replaces it by
  /// `replacement`, which it zeroes.
  void enable_gradients();
  std::span<float> gradients() { return gradients_.span(); }
  void zero_gradients() { gradients_.zero(); }
  Matrix<float> gradient(Handle handle);                       ///< of a trainable parameter
  Matrix<float> gradient(Handle handle, int first, int rows);  ///< as weight()
  Buffer<float> take_gradients(Buffer<float> replacement);

  /// Updates the bf16 compute copy from the values, everywhere or in a range; does nothing in f32.
  void update_compute_copy(const Backend& backend, Stream& stream) {
    update_compute_copy(backend, stream, 0, values_.size());
  }
  void update_compute_copy(const Backend& backend, Stream& stream, std::size_t first, std::size_t count);
  /// The compute copy of a range, for callers that update the values and the copy together; empty in f32.
  std::span<Bf16> compute_copy(std::size_t first, std::size_t count);

  /// Initializes every value from (seed, name, index in the whole tensor): the same on any layout.
  void initialize(std::uint64_t seed);

  /// The parts of tensors in [first, first + count) of the arena, in order, without the padding between tensors.
  std::vector<ParameterSlice> slices(std::size_t first, std::size_t count) const;

  /// Reads this rank's shard of every tensor. Errors: Fault::kStorage naming a tensor that is missing or has another
  /// shape.
  void load(const TensorSource& source);

  /// The whole tensors, as files name them.
  std::vector<TensorInfo> tensor_infos() const;

 private:
  /// `fill(data)` writes the parameter's local elements on the host, which are 0 beforehand.
  template <class Fill>
  void fill_values(const Parameter& p, const Fill& fill);
  void set_quantized(const Parameter& p, std::span<const std::byte> blocks);

  std::vector<Parameter> parameters_;
  Buffer<float> values_, gradients_;
  Buffer<Bf16> compute_values_;
  Buffer<std::int8_t> quantized_values_;  // of all quantized parameters, one after the other
  Buffer<float> quantized_scales_;
  std::size_t trainable_size_ = 0, replicated_size_ = 0;
  std::array<std::size_t, 2> f32_ends_{};  // among replicated and among sharded trainable tensors
  int slots_ = 1;
  DType compute_dtype_ = DType::kF32;
};

}  // namespace slipway
