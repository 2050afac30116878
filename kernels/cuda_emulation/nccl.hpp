// Fault injection for NCCL on the CUDA emulation.
#pragma once

namespace slipway::cuda_emulation {

/// From now on ncclCommGetAsyncError reports a lost peer for every communicator of this process.
void lose_peers();

}  // namespace slipway::cuda_emulation
