#include "src/model/tensor_split.hpp"

#include "src/core/error.hpp"

namespace slipway {

Share share_of(int total, int rank, int size) {
  const auto bound = [&](int r) { return static_cast<int>(std::int64_t{total} * r / size); };
  return {.first = bound(rank), .count = bound(rank + 1) - bound(rank), .room = (total + size - 1) / size};
}

TensorSplit TensorSplit::of(const ModelDescription& model, int rank, int size) {
  if (size > model.heads)
    throw Error(Fault::kConfig, join("mesh.tensor is ", size, " but the model has ", model.heads,
                                     " query heads: a rank would hold none. Set mesh.tensor to ", model.heads,
                                     " or less, or raise model.heads"));
  if (size > model.ffn || size > model.vocabulary)
    throw Error(Fault::kConfig, join("mesh.tensor is ", size, " but model.ffn is ", model.ffn, " and the vocabulary ",
                                     model.vocabulary, ": a rank would hold nothing. Lower mesh.tensor"));
  TensorSplit split{.rank = rank, .size = size};
  split.heads = share_of(model.heads, rank, size);
  split.kv_whole = model.kv_heads % size != 0;
  split.kv_heads = split.kv_whole ? Share{0, model.kv_heads, model.kv_heads} : share_of(model.kv_heads, rank, size);
  split.ffn = share_of(model.ffn, rank, size);
  split.vocabulary = share_of(model.vocabulary, rank, size);
  return split;
}

}  // namespace slipway
