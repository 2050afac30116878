// Messages between GPUs by NCCL, where the backend was built with it.
#pragma once

#include "kernels/device_messages.hpp"

namespace slipway::cuda {

const DeviceMessages* messages();  ///< null: built without NCCL

}  // namespace slipway::cuda
