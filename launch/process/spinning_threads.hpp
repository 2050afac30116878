// How long an OpenMP thread that waits for the others spins.
#pragma once

namespace slipway {

/// Lets OpenMP's waiting threads, oneDNN's among them, spin for microseconds and then sleep, unless the user has set
/// OMP_WAIT_POLICY or GOMP_SPINCOUNT. By default they spin for milliseconds: on a machine that also does other work, a
/// spinning thread then occupies the CPU that the thread it waits for needs (docs/numerics.md: 6 steps took 23 s
/// instead of 4 s).
///
/// libgomp reads its environment when it is loaded, before `main`, so the program sets the variable and calls exec on
/// itself (20 ms). Returns where that is not needed or not possible. `argv`: argv of `main`.
void limit_spin_count(char** argv);

}  // namespace slipway
