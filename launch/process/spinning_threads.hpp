// How long a thread that waits for the others of its parallel loop keeps its CPU.
#pragma once

namespace slipway {

/// Lets OpenMP's waiting threads, oneDNN's among them, spin for microseconds and then sleep, unless the user has set
/// OMP_WAIT_POLICY or GOMP_SPINCOUNT. By default they spin for milliseconds: on a machine that also does other work, a
/// thread then waits with the CPU that the thread it waits for needs (measured in docs/numerics.md's words: 6 steps in
/// 23 s instead of 4).
///
/// libgomp reads its environment when it is loaded, before `main`: so the program sets the variable and starts itself
/// once more in the same process (20 ms). Returns where that is not needed or not possible. `words`: of `main`.
void limit_spinning(char** words);

}  // namespace slipway
