// Matrices sharded over data and tensor ranks: each is gathered on one rank, and scattered back.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>
#include <set>

#include "kernels/backend/cpu_backend.hpp"
#include "src/model/model.hpp"
#include "src/optim/matrix_redistribution.hpp"
#include "src/optim/newton_schulz.hpp"

namespace slipway {
namespace {

constexpr int kSlots = 4;
const float kUndefined = std::numeric_limits<float>::quiet_NaN();

ModelSpec spec(int kv_heads) {
  return {.architecture = "llama",
          .layers = 2,
          .width = 24,
          .heads = 3,
          .kv_heads = kv_heads,
          .head_width = 8,
          .ffn = 20,
          .vocabulary = 31,
          .context = 16};
}

/// Initial values of every tensor by name, from one rank; they are the same in any layout.
std::map<std::string, std::vector<float>> full_tensors(int kv_heads) {
  std::unique_ptr<Group> self = make_self_group();
  Model model(spec(kv_heads), *all_backends().front(), *self, {.slots = kSlots});
  model.parameters().initialize(7);
  std::map<std::string, std::vector<float>> tensors;
  for (const Parameter& p : model.parameters().all()) {
    const std::span<const float> x = model.parameters().values().subspan(p.offset, p.local_size());
    tensors[p.name] = {x.begin(), x.end()};
  }
  return tensors;
}

/// Gathers on data x tensor ranks, doubles the gathered matrices, scatters, and checks every element. Returns the names
/// of the gathered matrices on all ranks.
std::multiset<std::string> gather_and_scatter(int data, int tensor, int kv_heads) {
  const auto tensors = full_tensors(kv_heads);
  std::multiset<std::string> gathered_names;
  std::mutex mutex;
  run_thread_group(data * tensor, [&](Group& world_group) {
    Mesh mesh = make_thread_mesh(world_group, tensor);
    Model model(spec(kv_heads), *all_backends().front(), *mesh.tensor, {.slots = kSlots});
    Parameters& parameters = model.parameters();
    parameters.initialize(7);
    const ArenaShards shards(parameters, data);
    const Group::Range owned = shards.trainable(mesh.data->rank()).front();
    std::vector<float> arena(parameters.values().begin(), parameters.values().end());
    for (std::size_t i = 0; i < arena.size(); ++i)
      if (i < owned.first || i >= owned.first + owned.count) arena[i] = kUndefined;

    MatrixRedistribution matrices(parameters, *all_backends().front(), mesh, shards);
    for (const Matrix<float>& matrix : matrices.gather(arena)) {
      const std::vector<float> matrix_values(matrix.data, matrix.data + matrix.size());
      const auto match = std::ranges::find_if(tensors, [&](const auto& one) { return one.second == matrix_values; });
      if (!matrix.contiguous() || match == tensors.end()) throw Error(Fault::kBug, "a gathered matrix is no tensor");
      const std::scoped_lock lock(mutex);
      gathered_names.insert(match->first);
      for (std::int64_t i = 0; i < matrix.size(); ++i) matrix.data[i] *= 2;
    }
    matrices.scatter(arena);
    for (const ParameterSlice& piece : parameters.slices(owned.first, owned.count))
      for (std::size_t i = piece.first; i < piece.first + piece.count; ++i) {
        const float expected = parameters.values()[i] * (is_hidden_matrix(*piece.parameter) ? 2.0f : 1.0f);
        if (arena[i] != expected)
          throw Error(Fault::kBug, join(piece.parameter->name, " came back as ", arena[i], ", not ", expected));
      }
  });
  return gathered_names;
}

TEST(MatrixRedistributionTest, EveryHiddenMatrixIsWholeOnceOnAnyMeshAndComesBack) {
  std::multiset<std::string> expected;
  for (int layer = 0; layer < 2; ++layer)
    for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"})
      expected.insert(join("blk.", layer, ".", name, ".weight"));
  // One key-value head is replicated over tensor ranks; three heads on two ranks and a width of 20 on three are padded.
  for (const int kv_heads : {3, 1})
    for (const auto& [data, tensor] : {std::pair{1, 1}, {2, 1}, {4, 1}, {1, 2}, {2, 2}, {1, 3}, {2, 3}, {4, 2}})
      EXPECT_EQ(gather_and_scatter(data, tensor, kv_heads), expected)
          << data << " x " << tensor << ", kv heads " << kv_heads;
}

TEST(MatrixRedistributionTest, WorkIsDealtEvenly) {
  std::vector<Parameter> parameters;
  for (int layer = 0; layer < 12; ++layer) {
    parameters.push_back({.name = "norm", .component = "norm", .vector = true, .rows = 1, .cols = 256});
    for (const int cols : {256, 256, 256, 256, 512, 512, 512})
      parameters.push_back({.name = "matrix", .component = "ffn", .rows = 256, .cols = cols});
  }
  for (const int ranks : {1, 2, 3, 8}) {
    const std::vector<int> owners = assign_matrices(parameters, ranks);
    std::vector<double> work(static_cast<std::size_t>(ranks));
    for (std::size_t i = 0; i < owners.size(); ++i) {
      EXPECT_EQ(owners[i] < 0, parameters[i].vector);
      if (owners[i] >= 0)
        work[static_cast<std::size_t>(owners[i])] += orthogonal_flops(parameters[i].rows, parameters[i].cols);
    }
    constexpr double kMaxImbalance = 1.08;  // 84 matrices of two costs on 8 ranks
    EXPECT_LT(*std::ranges::max_element(work), kMaxImbalance * *std::ranges::min_element(work)) << ranks;
  }
}

}  // namespace
}  // namespace slipway
