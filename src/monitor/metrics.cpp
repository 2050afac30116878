#include "src/monitor/metrics.hpp"

#include <algorithm>
#include <cstdio>
#include <sstream>
#include <vector>

#include "src/core/clock.hpp"
#include "src/core/file.hpp"

namespace slipway {

std::string metrics_lines(const std::filesystem::path& file, std::int64_t first, std::int64_t last) {
  std::string selected_lines;
  if (!std::filesystem::exists(file)) return selected_lines;
  std::istringstream lines(read_file(file, Fault::kStorage));
  for (std::string line; std::getline(lines, line);) {
    Json json;
    try {
      json = parse_json(line, FileLocation{file}, Fault::kStorage);
    } catch (const Error&) {  // what a killed process left of a line
    }
    if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) continue;
    const std::int64_t step = json["step"];
    if (step >= first && step <= last) selected_lines += line + "\n";
  }
  return selected_lines;
}

MetricsLog::MetricsLog(const std::filesystem::path& run_folder, std::int64_t steps_done, std::string device,
                       std::int64_t last_curve_step)
    : path_(run_folder / kMetricsName),
      device_(std::move(device)),
      tensorboard_(run_folder / "tb", std::min(steps_done, last_curve_step) + 1) {
  atomic_write_file(path_, metrics_lines(path_, 1, steps_done));
  lines_.open(path_, std::ios::app);
  std::istringstream dropped(metrics_lines(path_, last_curve_step + 1, steps_done));
  for (std::string line; std::getline(dropped, line);) write_curves(Json::parse(line));
  tensorboard_.flush();
}

void MetricsLog::write_curves(const Json& line) {
  const std::int64_t step = line["step"];
  for (const auto& [key, tag] :
       {std::pair("train_loss", "loss/train"), std::pair("val_loss", "loss/validation"), std::pair("lr", "optim/lr"),
        std::pair("grad_norm", "optim/grad_norm"), std::pair("tokens_per_sec", "speed/tokens_per_s")})
    if (line.contains(key) && line[key].is_number()) tensorboard_.add_scalar(tag, line[key], step);
}

void MetricsLog::write(const StepRecord& r) {
  const StepReport& s = r.report;
  Json line = {{"step", s.step},
               {"train_loss", s.loss},
               {"grad_norm", s.grad_norm},
               {"lr", s.lr},
               {"tokens_per_sec", r.tokens_per_s},
               {"tokens_seen", r.tokens_seen},
               {"target_tokens", s.targets},
               {"clipped", s.clipped},
               {"epoch", r.epoch},
               {"batch_sha256", s.batch_sha256},
               {"device", device_}};
  if (r.val_loss) line["val_loss"] = *r.val_loss;
  lines_ << to_line(line) << std::endl;
  if (!lines_)
    throw Error(Fault::kStorage, join("cannot write ", path_.string(), ": ", errno_message(),
                                      "; mend that (a full disk, permissions), then resume"));

  write_curves(line);
  tensorboard_.flush();  // so that curves can be watched during training, and a killed run keeps its points
}

void MetricsLog::flush() { tensorboard_.flush(); }

std::string human_line(const StepRecord& r, int columns) {
  const auto format = [](const char* pattern, double value) {
    char digits[48];
    std::snprintf(digits, sizeof digits, pattern, value);
    return std::string(digits);
  };
  struct Field {
    std::string text;
    int priority;  // the lowest is left out first where not all fit
  };
  std::vector<Field> fields = {
      {join("Step ", r.report.step), 9},
      {"Train Loss: " + format("%.4f", r.report.loss), 8},
      {"Val Loss: " + (r.val_loss ? format("%.4f", *r.val_loss) : "-"), r.val_loss ? 7 : 1},
      {"LR " + format("%.2e", r.report.lr), 3},
      {join("Grad ", format("%.3f", r.report.grad_norm), r.report.clipped ? " (clipped)" : ""), 2},
      {"tok/s " + format("%.0f", r.tokens_per_s), 5},
      {"MFU " + (r.mfu > 0 ? format("%.1f%%", 100 * r.mfu) : "none"), 4},
      {"ETA " + human_time(r.eta_s), 6}};
  const auto join_fields = [&] {
    std::string joined;
    for (const Field& field : fields) joined += (joined.empty() ? "" : " | ") + field.text;
    return joined;
  };
  while (columns > 0 && std::ssize(join_fields()) > columns && fields.size() > 1)
    fields.erase(std::ranges::min_element(fields, {}, &Field::priority));
  return join_fields();
}

}  // namespace slipway
