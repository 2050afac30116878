// qa: is this saved model usable? A table of gates, from the file's bytes to the text it writes (docs/qa.md).
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "src/eval/gate.hpp"
#include "src/eval/text_sample.hpp"
#include "src/infer/loaded_model.hpp"

namespace slipway {

/// Writes a model as an f32 GGUF to a path. The program gives it, since qa knows no exports.
using Exporter = std::function<void(const ModelBundle&, const std::filesystem::path& gguf)>;

struct QaOptions {
  LoadOptions load;
  QaPolicy policy = QaPolicy::built_in();
  std::optional<TextSample> text;  ///< what loss is measured on
  Exporter exporter;               ///< empty: the gates of the export are not evaluated
  std::filesystem::path
      scratch;  ///< where the export is written and removed again; empty: the system's temporary folder
  std::string untrained_reason;  ///< why gates of learned quality say nothing about this model; empty: they do
};

/// A model's verdicts.
struct QaReport {
  Json json;          ///< schema slipway.qa
  std::string table;  ///< for people
  bool passed = false;
  std::string blocking;  ///< ids of the gates that failed or could not be measured
};

/// Runs every gate, in the order of docs/qa.md. Gates that need the model to run are not evaluated when its file fails.
/// Errors   Fault::kStorage when the file or the disk cannot be read or written; verdicts are no errors.
QaReport run_qa(const ModelBundle& files, const QaOptions& options);

}  // namespace slipway
