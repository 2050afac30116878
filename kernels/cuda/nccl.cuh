// Collectives between GPUs by NCCL, where the backend was built with it.
#pragma once

#include "kernels/backend/device_collectives.hpp"

namespace slipway::cuda {

const DeviceCollectives* collectives();  ///< null: built without NCCL, or libnccl.so.2 was not found

}  // namespace slipway::cuda
