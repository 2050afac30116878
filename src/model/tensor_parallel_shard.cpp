#include "src/model/tensor_parallel_shard.hpp"

#include "src/core/error.hpp"

namespace slipway {

ShardRange shard_range_of(int total, int rank, int size) {
  const auto bound = [&](int r) { return static_cast<int>(std::int64_t{total} * r / size); };
  return {.total = total,
          .first = bound(rank),
          .count = bound(rank + 1) - bound(rank),
          .padded_size = (total + size - 1) / size};
}

TensorParallelShard TensorParallelShard::of(const ModelSpec& model, int rank, int size) {
  if (size > model.heads)
    throw Error(Fault::kConfig, join("mesh.tensor is ", size, " but the model has ", model.heads,
                                     " query heads: a rank would hold none. Set mesh.tensor to ", model.heads,
                                     " or less, or raise model.heads"));
  if (size > model.ffn || size > model.vocabulary)
    throw Error(Fault::kConfig, join("mesh.tensor is ", size, " but model.ffn is ", model.ffn, " and the vocabulary ",
                                     model.vocabulary, ": a rank would hold nothing. Lower mesh.tensor"));
  TensorParallelShard shard{.rank = rank, .size = size};
  shard.heads = shard_range_of(model.heads, rank, size);
  shard.kv_replicated = model.kv_heads % size != 0;
  shard.kv_heads = shard.kv_replicated ? ShardRange{model.kv_heads, 0, model.kv_heads, model.kv_heads}
                                       : shard_range_of(model.kv_heads, rank, size);
  shard.ffn = shard_range_of(model.ffn, rank, size);
  shard.vocabulary = shard_range_of(model.vocabulary, rank, size);
  return shard;
}

}  // namespace slipway
