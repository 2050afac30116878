// The program among its launcher's ranks: how errors end all of them, and how many threads each may use.
#pragma once

#include <functional>
#include <string>

#include "comm/launcher_info.hpp"
#include "comm/world.hpp"
#include "kernels/backend/runtime.hpp"
#include "src/config/run_config.hpp"
#include "src/core/error.hpp"

namespace slipway {

/// Runs a command and returns its status. An error that leaves it is printed once, `slipway: error (<fault>):
/// <sentence>`, and ends all ranks with its fault's status: before MPI starts every rank finds the same, so rank 0
/// prints it while the others wait to be ended; afterwards whoever finds it prints it and aborts all, lower ranks
/// first, so that what several find is said once.
int run_guarded(const std::function<int()>& command);

/// What run_guarded does with an error. Returns only in a single process.
int fail_all_ranks(Fault fault, const std::string& message);

/// What this rank computes with, as the keys of `parallel` say: where runtime.threads is not given, the CPUs of this
/// host's ranks, shared evenly, at least 1.
RuntimeOptions runtime_options(const ParallelConfig& parallel, World& world);

/// Warns, with the flag that mends it, when this host's ranks x threads do not fit the CPUs they are bound to; says so
/// when mpirun has bound them to fewer than it has itself. One rank of each host speaks.
void check_threads(World& world, int threads);

/// What stands before the program to start as many ranks again: "launch/run -n 4 "; empty for one process.
std::string start_command(const LauncherInfo& launcher);

}  // namespace slipway
