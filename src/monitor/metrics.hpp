// Metrics of a run in progress: one JSON object per step, TensorBoard curves, and a log line.
#pragma once

#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "io/tensorboard.hpp"
#include "src/core/json.hpp"
#include "src/monitor/step_report.hpp"

namespace slipway {

/// A step as it is logged.
struct StepRecord {
  StepReport report;
  std::optional<double> val_loss;  ///< where it was measured
  double tokens_per_s = 0;         ///< the step's target tokens / its time, as Throughput counts it
  std::int64_t tokens_seen = 0;    ///< tokens consumed since the start of the run
  std::int64_t epoch = 0;          ///< counted from 1
  double mfu = 0;                  ///< 0: the peak is unknown
  double eta_s = 0;
};

inline constexpr char kMetricsName[] = "metrics.jsonl";

/// The lines of such a file for steps from `first` to `last`, without a half-written last line.
std::string metrics_lines(const std::filesystem::path& file, std::int64_t first, std::int64_t last);

/// Writes `metrics.jsonl` and `tb/` of a run, on rank 0.
class MetricsLog {
 public:
  /// Keeps the lines of steps up to `steps_done` and drops what a killed process wrote after them. `device` computes
  /// the steps that follow. The curves of steps after `last_curve_step` are written again, from the lines.
  /// Errors   Fault::kStorage.
  MetricsLog(const std::filesystem::path& run_folder, std::int64_t steps_done, std::string device,
             std::int64_t last_curve_step = std::numeric_limits<std::int64_t>::max());

  void write(const StepRecord& record);
  void flush();

 private:
  void write_curves(const Json& line);

  std::filesystem::path path_;
  std::string device_;
  std::ofstream lines_;
  TensorBoardWriter tensorboard_;
};

/// `Step 12 | Train Loss: 5.1234 | Val Loss: 5.2345 | LR 1.2e-03 | Grad 1.23 | tok/s 1234 | MFU 35.1% | ETA 3m05s`; a
/// dash where the validation loss was not measured after this step. With `columns` the fields that do not fit are left
/// out: first an unmeasured Val Loss, then Grad, LR, MFU, tok/s, ETA.
std::string human_line(const StepRecord& record, int columns = 0);

}  // namespace slipway
