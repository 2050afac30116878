// The rehearsal: before step 1, runs every later stage of a run on the untrained weights.
#pragma once

#include <filesystem>

#include "comm/mesh.hpp"
#include "comm/world.hpp"
#include "src/config/run_config.hpp"
#include "src/core/json.hpp"
#include "src/data/corpus.hpp"

namespace slipway {

/// Saves, reloads on another layout, runs qa and bench, exports and reopens, so that failures of these stages appear
/// before training, with the stage's name. Its checkpoint stores `saved_config`, as the run's checkpoints do. Its files
/// are in `run_folder`/rehearsal and are removed; its memory is freed.
///
/// Ranks    collective. Errors: as the stage's own, with "rehearsal, stage <name>: " in front.
void rehearse(World& world, Mesh& mesh, const Backend& backend, const RunConfig& config, const Corpus& corpus,
              const std::filesystem::path& run_folder, const Json& saved_config);

/// Removes the files of a rehearsal that was killed. One rank calls it, while it holds the run's lock.
void remove_rehearsal(const std::filesystem::path& run_folder);

}  // namespace slipway
