// qa: judges a saved model by a table of gates, from the file's bytes to generated text (docs/qa.md).
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "src/eval/gate.hpp"
#include "src/eval/text_sample.hpp"
#include "src/infer/loaded_model.hpp"

namespace slipway {

/// Writes a model as an f32 GGUF to a path. The command supplies it, since src/eval does not depend on src/export.
using Exporter = std::function<void(const ModelBundle&, const std::filesystem::path& gguf)>;

struct QaOptions {
  LoadOptions load;
  QaPolicy policy = QaPolicy::built_in();
  std::optional<TextSample> text;  ///< on which the loss is measured
  Exporter exporter;               ///< empty: export gates are not evaluated
  std::filesystem::path scratch;   ///< where the export is written, then removed; empty: the system's temporary folder
  std::string untrained_reason;  ///< why gates of learned quality do not apply to an untrained model; empty: they apply
};

/// A model's verdicts.
struct QaReport {
  Json json;          ///< schema slipway.qa
  std::string table;  ///< for people
  bool passed = false;
  std::string blocking_gates;  ///< ids of the gates that failed or could not be measured
};

/// Runs every gate, in the order of docs/qa.md. When a gate fails without which the weights cannot be loaded, gates
/// that run the model are not evaluated.
/// Errors   Fault::kStorage when the file or the disk cannot be read or written. A failed gate is not an error.
QaReport run_qa(const ModelBundle& bundle, const QaOptions& options);

}  // namespace slipway
