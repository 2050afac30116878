// Messages between GPUs by NCCL, where the backend was built with it.
#pragma once

#include "kernels/device_collectives.hpp"

namespace slipway::cuda {

const DeviceCollectives* messages();  ///< null: built without NCCL

}  // namespace slipway::cuda
