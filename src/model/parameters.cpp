#include "src/model/parameters.hpp"

#include <algorithm>

#include "src/core/allocation_tag.hpp"
#include "src/core/random.hpp"

namespace slipway {
namespace {

constexpr std::size_t kAlign = 16;  // elements: 64 bytes

std::size_t round_up(std::size_t value, std::size_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

std::size_t Parameters::padded_size(std::size_t size) { return round_up(size, kAlign); }

int Parameter::unpadded_rows() const { return shard == ShardAxis::kRows ? count : local_rows; }
std::vector<std::int64_t> Parameter::shape() const {
  if (vector) return {cols};
  return {rows, cols};
}

int Parameter::unpadded_cols() const { return shard == ShardAxis::kCols ? count : local_cols; }

Parameters::Handle Parameters::add(Parameter parameter) {
  parameter.keep_f32 |= parameter.vector;
  parameters_.push_back(std::move(parameter));
  return static_cast<Handle>(parameters_.size()) - 1;
}

void Parameters::freeze(const std::function<bool(const Parameter&)>& should_freeze) {
  for (Parameter& p : parameters_)
    if (should_freeze(p)) p.trainable = false;
}

void Parameters::allocate(int slots, DType compute_dtype, const TensorSource* quantized_source, MemorySpace& space) {
  slots_ = slots;
  compute_dtype_ = compute_dtype;
  const std::string description =
      join("the weights (", parameters_.size(), " tensors, ", parameters_.front().name, " the first)");
  const AllocationTag weights(MemoryKind::kWeights, description.c_str());
  std::size_t end = 0, quantized_end = 0;
  for (Parameter& p : parameters_) {
    p.quantized = quantized_source != nullptr && !p.vector && p.may_stay_quantized && p.local_rows == p.rows &&
                  p.local_cols == p.cols && quantized_source->stored_type(p.name) == TensorType::kQ8_0;
    if (!p.quantized) continue;
    p.offset = quantized_end;
    quantized_end += p.local_size();
  }
  quantized_values_ = Buffer<std::int8_t>(quantized_end, space);
  quantized_scales_ = Buffer<float>(quantized_end / QuantizedRows::kBlock, space);
  const std::size_t granule = kAlign * static_cast<std::size_t>(slots);
  for (const bool trainable : {true, false}) {
    for (const bool replicated : {true, false}) {
      for (const bool in_f32 : {true, false}) {
        for (Parameter& p : parameters_) {
          if (p.quantized || p.trainable != trainable || (p.shard == ShardAxis::kReplicated) != replicated ||
              p.keep_f32 != in_f32)
            continue;
          p.offset = end;
          end += padded_size(p.local_size());
        }
        if (trainable && in_f32) f32_ends_[replicated ? 0 : 1] = end;
      }
      if (trainable && replicated) replicated_size_ = end;
    }
    end = round_up(end, granule);
    if (trainable) trainable_size_ = end;
  }
  values_ = Buffer<float>(end, space);
  const AllocationTag copy(MemoryKind::kComputeCopy, "the bf16 copy of the weights");
  if (compute_dtype == DType::kBf16) compute_values_ = Buffer<Bf16>(values_.size(), space);
}

Parameters::Handle Parameters::find(const std::string& name) const {
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    if (parameters_[i].name == name) return static_cast<Handle>(i);
  return -1;
}

std::vector<std::pair<std::string, std::int64_t>> Parameters::component_sizes() const {
  std::vector<std::pair<std::string, std::int64_t>> sizes;
  for (const Parameter& p : parameters_) {
    auto found = std::ranges::find(sizes, p.component, &std::pair<std::string, std::int64_t>::first);
    if (found == sizes.end()) found = sizes.insert(sizes.end(), {p.component, 0});
    found->second += std::int64_t{p.rows} * p.cols;
  }
  return sizes;
}

Matrix<float> Parameters::value(Handle handle) {
  const Parameter& p = at(handle);
  require(!p.quantized, "Parameters::value: the parameter is held in blocks");
  return {values_.data() + p.offset, p.local_rows, p.local_cols, p.local_cols};
}

ConstTensorView Parameters::weight(Handle handle) const { return weight(handle, 0, at(handle).local_rows); }

ConstTensorView Parameters::weight(Handle handle, int first, int rows) const {
  const Parameter& p = at(handle);
  require(!p.quantized, "Parameters::weight: the parameter is held in blocks");
  const std::size_t offset = p.offset + static_cast<std::size_t>(first) * static_cast<std::size_t>(p.local_cols);
  if (compute_dtype_ == DType::kBf16)
    return Matrix<const Bf16>{compute_values_.data() + offset, rows, p.local_cols, p.local_cols};
  return Matrix<const float>{values_.data() + offset, rows, p.local_cols, p.local_cols};
}

bool Parameters::adjacent(Handle first, Handle second) const {
  const Parameter &a = at(first), &b = at(second);
  return a.quantized == b.quantized && a.trainable == b.trainable && a.offset + a.local_size() == b.offset &&
         a.local_cols == b.local_cols;
}

QuantizedRows Parameters::quantized(Handle handle, int first, int rows) const {
  const Parameter& p = at(handle);
  require(p.quantized, "Parameters::quantized: the parameter is held as numbers");
  const QuantizedRows whole{quantized_values_.data() + p.offset,
                            quantized_scales_.data() + p.offset / QuantizedRows::kBlock, p.local_rows, p.local_cols};
  return whole.view_rows(first, rows);
}

void Parameters::enable_gradients() {
  require(quantized_values_.size() == 0, "Parameters::enable_gradients: blocks of q8_0 cannot be trained");
  const AllocationTag gradients(MemoryKind::kGradients, "the gradients");
  if (gradients_.size() == 0) gradients_ = Buffer<float>(trainable_size_, space());
}

Matrix<float> Parameters::gradient(Handle handle) { return gradient(handle, 0, at(handle).local_rows); }

Matrix<float> Parameters::gradient(Handle handle, int first, int rows) {
  const Parameter& p = at(handle);
  require(p.trainable, "Parameters::gradient: the parameter is frozen");
  const std::size_t offset = p.offset + static_cast<std::size_t>(first) * static_cast<std::size_t>(p.local_cols);
  return {gradients_.data() + offset, rows, p.local_cols, p.local_cols};
}

Buffer<float> Parameters::take_gradients(Buffer<float> replacement) {
  require(replacement.size() == gradients_.size(), "take_gradients: the replacement has another size");
  replacement.zero();
  std::swap(replacement, gradients_);
  return replacement;
}

void Parameters::update_compute_copy(const Backend& backend, Stream& stream, std::size_t first, std::size_t count) {
  if (compute_dtype_ != DType::kBf16) return;
  constexpr std::size_t kCols = 4096;  // the range as rows of a matrix for a 2-D op; the remainder is one shorter row
  const auto round_range = [&](std::size_t begin, std::size_t rows, std::size_t cols) {
    const int R = static_cast<int>(rows), C = static_cast<int>(cols);
    if (rows * cols != 0)
      backend.to_bf16(stream, {{values_.data() + begin, R, C, C}, {compute_values_.data() + begin, R, C, C}});
  };
  const std::size_t full_rows_size = count / kCols * kCols;
  round_range(first, count / kCols, kCols);
  round_range(first + full_rows_size, 1, count - full_rows_size);
}

std::span<Bf16> Parameters::compute_copy(std::size_t first, std::size_t count) {
  return compute_dtype_ == DType::kBf16 ? compute_values_.span().subspan(first, count) : std::span<Bf16>();
}

template <class Fill>
void Parameters::fill_values(const Parameter& p, const Fill& fill) {
  float* const device_values = values_.data() + p.offset;
  if (space().is_host()) return fill(device_values);
  Buffer<float> host_values(p.local_size());
  fill(host_values.data());
  space().write(device_values, host_values.data(), host_values.size() * sizeof(float));
}

void Parameters::initialize(std::uint64_t seed) {
  for (const Parameter& p : parameters_) {
    const Random random(seed, stream_of(("init/" + p.name).c_str()));
    fill_values(p, [&](float* data) {
#pragma omp parallel for
      for (int r = 0; r < p.unpadded_rows(); ++r) {
        float* row = data + static_cast<std::size_t>(r) * static_cast<std::size_t>(p.local_cols);
        for (int c = 0; c < p.unpadded_cols(); ++c) {
          const auto element = static_cast<std::uint64_t>(p.first_row() + r) * static_cast<std::uint64_t>(p.cols) +
                               static_cast<std::uint64_t>(p.first_col() + c);
          row[c] = p.init == Init::kNormal ? p.init_std * random.normal(element) : p.init == Init::kOnes ? 1.0f : 0.0f;
        }
      }
    });
  }
}

std::vector<ParameterSlice> Parameters::slices(std::size_t first, std::size_t count) const {
  std::vector<ParameterSlice> result;
  for (const Parameter& p : parameters_) {
    if (p.quantized) continue;
    const std::size_t begin = std::max(first, p.offset), end = std::min(first + count, p.offset + p.local_size());
    if (begin < end) result.push_back({&p, begin, end - begin});
  }
  return result;
}

void Parameters::set_quantized(const Parameter& p, std::span<const std::byte> blocks) {
  const std::size_t size = p.local_size(), scales = size / QuantizedRows::kBlock;
  std::int8_t* const device_values = quantized_values_.data() + p.offset;
  float* const device_scales = quantized_scales_.data() + p.offset / QuantizedRows::kBlock;
  if (space().is_host()) return split_q8_0(blocks, {device_values, size}, {device_scales, scales});
  Buffer<std::int8_t> host_values(size);
  Buffer<float> host_scales(scales);
  split_q8_0(blocks, host_values.span(), host_scales.span());
  space().write(device_values, host_values.data(), size);
  space().write(device_scales, host_scales.data(), scales * sizeof(float));
}

void Parameters::load(const TensorSource& source) {
  const std::vector<TensorInfo> source_tensors = source.tensors();
  std::vector<float> tensor_values;
  std::vector<std::byte> blocks;
  for (const Parameter& p : parameters_) {
    const auto found = std::find_if(source_tensors.begin(), source_tensors.end(),
                                    [&](const TensorInfo& t) { return t.name == p.name; });
    const std::vector<std::int64_t> shape = p.shape();
    if (found == source_tensors.end())
      throw Error(Fault::kStorage,
                  join("tensor ", p.name,
                       " is missing from the model file; it belongs to another architecture or is incomplete"));
    if (found->shape != shape)
      throw Error(Fault::kStorage, join("tensor ", p.name, " has shape ", found->shape.front(),
                                        found->shape.size() > 1 ? join(" x ", found->shape[1]) : "", " but ",
                                        shape.front(), shape.size() > 1 ? join(" x ", shape[1]) : "",
                                        " is configured; model.* keys and file must agree"));
    if (p.quantized) {
      blocks.resize(static_cast<std::size_t>(bytes_of(TensorType::kQ8_0, std::int64_t{p.rows} * p.cols)));
      source.read_stored(p.name, blocks);
      set_quantized(p, blocks);
      continue;
    }
    tensor_values.resize(static_cast<std::size_t>(p.rows) * static_cast<std::size_t>(p.cols));
    source.read(p.name, tensor_values);
    fill_values(p, [&](float* data) {
      for (int r = 0; r < p.unpadded_rows(); ++r) {
        const float* from = tensor_values.data() +
                            static_cast<std::size_t>(p.first_row() + r) * static_cast<std::size_t>(p.cols) +
                            p.first_col();
        std::copy_n(from, p.unpadded_cols(),
                    data + static_cast<std::size_t>(r) * static_cast<std::size_t>(p.local_cols));
      }
    });
  }
}

std::vector<TensorInfo> Parameters::tensor_infos() const {
  std::vector<TensorInfo> result;
  for (const Parameter& p : parameters_) result.push_back({p.name, p.shape()});
  return result;
}

}  // namespace slipway
