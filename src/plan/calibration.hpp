// Measures how long the parts of a step take on this machine, with this run's own model, in a few seconds.
#pragma once

#include <cstdint>
#include <optional>

#include "comm/mesh.hpp"
#include "src/config/run_config.hpp"
#include "src/core/json.hpp"
#include "src/data/loader.hpp"
#include "src/model/model.hpp"

namespace slipway {

/// Seconds of what a rank does in a step, the slowest rank's.
struct StepParts {
  double micro_batch_s = 0;  ///< read, forward and backward of one
  double slots_s = 0;        ///< the sums over this rank's slots
  double reduce_s = 0;       ///< gradient reduction over ranks
  double update_s = 0;       ///< checks, norm, optimizer, and the weights to all ranks
  double validation_s = 0;   ///< forward alone of one micro-batch, where the run validates
};

/// What a calibration found. Parts are those of the whole model, whatever was measured.
struct Calibration {
  StepParts parts;
  int layers = 0;     ///< of the deepest model that was measured; fewer than the run's: extrapolated from 1 and this
  int sequences = 0;  ///< of its micro-batches; fewer than the run's: scaled
  int micro_batches = 0;       ///< timed of it
  double relative_spread = 0;  ///< of their times: middle half / median; a busy machine shows here
  double seconds = 0;          ///< that the calibration took
};

/// What a calibration may take.
struct CalibrationLimit {
  double seconds = 10;
  std::uint64_t bytes = 0;  ///< of memory, on each rank
};

/// Measures a model of this run's shapes on this run's ranks and threads: all its layers where that fits the limit,
/// else one layer and as many as fit, and a layer's share from the difference. Batches come from `loader` (null:
/// of random ids, each sequence one document) and pass over its data without moving its cursor.
///
/// Ranks    collective over the mesh; world_group = mesh.data x mesh.tensor. Slots and micro-batches are shared out
///          over `data_parallel_size`, which may be more than are here.
/// Cost     about limit.seconds, more where one layer of one sequence is slower than that.
Calibration calibrate(const RunConfig& config, const ModelSpec& model, int data_parallel_size, const Backend& backend,
                      Mesh& mesh, Group& world_group, const Loader* loader, const CalibrationLimit& limit);

Json to_json(const Calibration& calibration);

}  // namespace slipway
