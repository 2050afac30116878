// NCCL on the CUDA emulation: what a test can do to it.
#pragma once

namespace slipway::cuda_emulation {

/// Every communicator of this process reports from now on that it has lost a peer (ncclCommGetAsyncError).
void lose_peers();

}  // namespace slipway::cuda_emulation
