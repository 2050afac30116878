// Reads values of the manifest's extensible sections, whose form is checked only by the code that reads them.
#pragma once

#include <filesystem>

#include "src/core/json_error.hpp"

namespace slipway {

/// Runs `work`, which reads sections of the manifest in `checkpoint`.
/// Errors   Fault::kStorage where the JSON library finds a value missing or of another type.
template <class Work>
auto with_manifest_errors(const std::filesystem::path& checkpoint, Work&& work) {
  try {
    return work();
  } catch (const nlohmann::json::exception& reason) {
    throw Error(Fault::kStorage,
                join("checkpoint ", checkpoint.string(), ": its manifest is not as Slipway writes it (",
                     reason_of(reason), "); restore it from a copy, or choose another checkpoint"));
  }
}

}  // namespace slipway
