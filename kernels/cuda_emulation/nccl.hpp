// Fault injection for NCCL on the CUDA emulation.
#pragma once

namespace slipway::cuda_emulation {

/// From now on ncclCommGetAsyncError reports a lost peer for every communicator of this process.
void inject_peer_loss();

}  // namespace slipway::cuda_emulation
