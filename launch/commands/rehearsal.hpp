// The rehearsal: before step 1, a run walks its whole life on the untrained weights.
#pragma once

#include <filesystem>

#include "comm/mesh.hpp"
#include "comm/world.hpp"
#include "src/config/run_config.hpp"
#include "src/core/json.hpp"
#include "src/data/corpus.hpp"

namespace slipway {

/// Saves, reloads on another layout, qa, bench, export, reopens: what would fail after three weeks fails now, with the
/// stage's name. Its checkpoint keeps `kept_config`, as the run's will. What it writes lies in `run`/rehearsal and is
/// removed; its memory is given back.
///
/// Ranks    collective. Errors: as the stage's own, with "rehearsal, stage <name>: " in front.
void rehearse(World& world, Mesh& mesh, const Backend& backend, const RunConfig& config, const Corpus& corpus,
              const std::filesystem::path& run, const Json& kept_config);

/// Removes what a rehearsal left that was killed. One rank calls it, with the run's lock.
void remove_rehearsal(const std::filesystem::path& run);

}  // namespace slipway
