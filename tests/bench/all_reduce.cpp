// The canonical sum over ranks against MPI_Allreduce on the same numbers, in turns:
//   mpirun -n RANKS all_reduce [MEBIBYTES [PAIRS]]
// prints {"bytes", "canonical_s": [...], "mpi_s": [...]}, the slowest rank's seconds of each turn.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <numeric>
#include <vector>

#include "comm/world.hpp"
#include "src/core/error.hpp"

namespace slipway {
namespace {

/// Seconds of the slowest rank.
template <class Work>
double max_seconds(Group& group, const Work& work) {
  group.barrier();
  const auto begin = std::chrono::steady_clock::now();
  work();
  return group.all_reduce_max(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
}

void print_list(const char* name, const std::vector<double>& values) {
  std::cout << ", \"" << name << "\": [";
  for (std::size_t i = 0; i < values.size(); ++i) std::cout << (i == 0 ? "" : ", ") << values[i];
  std::cout << "]";
}

int run(std::size_t mebibytes, int pairs) {
  World world;
  Group& group = world.group();
  const std::size_t count = (mebibytes << 20) / sizeof(float);
  std::vector<float> x(count);
  const auto fill = [&] { std::iota(x.begin(), x.end(), static_cast<float>(group.rank())); };
  const auto check = [&](const char* algorithm) {  // the last number has seen every rank
    const float n = static_cast<float>(group.size());
    const float expected = n * static_cast<float>(count - 1) + n * (n - 1) / 2;
    require(std::abs(x.back() - expected) < 1e-5f * expected, join("all_reduce: ", algorithm, " gave a wrong sum"));
  };
  std::vector<double> canonical_s, mpi_s;
  for (int pair = -1; pair < pairs; ++pair) {  // the first warms up
    fill();
    const double canonical_time_s = max_seconds(group, [&] {
      group.reduce_scatter_sum(x);
      group.all_gather_shards(x);
    });
    check("the canonical sum");
    fill();
    const double mpi_time_s = max_seconds(group, [&] {
      MPI_Allreduce(MPI_IN_PLACE, x.data(), static_cast<int>(count), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    });
    check("MPI_Allreduce");
    if (pair >= 0) canonical_s.push_back(canonical_time_s), mpi_s.push_back(mpi_time_s);
  }
  if (group.rank() == 0) {
    std::cout << "{\"bytes\": " << count * sizeof(float);
    print_list("canonical_s", canonical_s);
    print_list("mpi_s", mpi_s);
    std::cout << "}" << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace slipway

int main(int argc, char** argv) {
  return slipway::run(argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 64, argc > 2 ? std::atoi(argv[2]) : 7);
}
