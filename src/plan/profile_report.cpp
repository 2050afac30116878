#include "src/plan/profile_report.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "src/core/file.hpp"
#include "src/core/tensor.hpp"

namespace slipway {
namespace {

constexpr char kRoot[] = "step";                // Trainer::step's span: what the rows of the table add up to
constexpr char kCollapsed[] = "orthogonalize";  // one row with all that it holds: its products are not the model's

struct Row {
  int calls = 0;
  double seconds = 0;
  profile::Cost cost;
};

/// The thread that steps are made on.
int training_thread(std::span<const profile::Span> spans) {
  for (const profile::Span& span : spans)
    if (std::string_view(span.name) == kRoot) return span.thread;
  return 0;
}

}  // namespace

Json profile_table(std::span<const profile::Span> spans, int steps, const DevicePeaks& peaks) {
  const int thread_id = training_thread(spans);
  double total_s = 0;
  for (const profile::Span& span : spans)
    if (std::string_view(span.name) == kRoot) total_s += span.end_s - span.begin_s;
  std::vector<const profile::Span*> sorted_spans;  // outer spans before those that they hold
  for (const profile::Span& span : spans)
    if (span.thread == thread_id) sorted_spans.push_back(&span);
  std::ranges::sort(sorted_spans, {}, [](const profile::Span* span) { return std::pair(span->begin_s, -span->end_s); });

  std::map<std::string, Row> rows;
  std::vector<std::pair<const profile::Span*, const char*>>
      open_spans;  // around the span at hand, and the rows of both
  for (const profile::Span* span : sorted_spans) {
    while (!open_spans.empty() && open_spans.back().first->end_s <= span->begin_s) open_spans.pop_back();
    const std::string_view name = span->name;
    const char* const outer = open_spans.empty() ? nullptr : open_spans.back().second;
    const bool charge_outer = outer != nullptr && outer == std::string_view(kCollapsed);
    const char* const row_name = name == kRoot      ? "other"
                                 : outer == nullptr ? nullptr
                                 : charge_outer     ? outer
                                                    : span->name;
    open_spans.emplace_back(span, row_name);
    if (row_name == nullptr) continue;  // between steps: validation, a sample
    Row& row = rows[row_name];
    if (!charge_outer) ++row.calls;
    row.seconds += span->end_s - span->begin_s - span->inner_s;
    row.cost.flops += span->cost.flops;
    row.cost.bytes += span->cost.bytes;
  }
  Json list = Json::array();
  for (const auto& [name, row] : rows) {
    const double bound_s = std::max(peaks.flops > 0 ? row.cost.flops / peaks.flops : 0,
                                    peaks.bytes > 0 ? row.cost.bytes / peaks.bytes : 0);
    list.push_back({{"name", name},
                    {"calls", row.calls},
                    {"seconds", row.seconds},
                    {"share", total_s > 0 ? row.seconds / total_s : 0},
                    {"flops", row.cost.flops},
                    {"bytes", row.cost.bytes},
                    {"limit_share", row.seconds > 0 ? bound_s / row.seconds : 0}});
  }
  std::sort(list.begin(), list.end(), [](const Json& a, const Json& b) { return a["seconds"] > b["seconds"]; });
  return {{"schema", "slipway.profile"},
          {"schema_version", 1},
          {"steps", steps},
          {"seconds", total_s},
          {"flops_per_s_limit", peaks.flops},
          {"bytes_per_s_limit", peaks.bytes},
          {"rows", list}};
}

std::string to_text(const Json& table) {
  char line[160];
  std::snprintf(line, sizeof line, "%-22s %8s %9s %7s %10s %8s %7s\n", "operation", "calls", "ms", "share", "GFLOP/s",
                "GB/s", "limit");
  std::string text = line;
  for (const Json& row : table.at("rows")) {
    const double seconds = row.at("seconds"), flops = row.at("flops"), bytes = row.at("bytes"), share = row.at("share"),
                 limit_share = row.at("limit_share");
    std::snprintf(line, sizeof line, "%-22s %8d %9.1f %6.1f%% %10.1f %8.1f %6.0f%%\n",
                  row.at("name").get<std::string>().c_str(), row.at("calls").get<int>(), 1e3 * seconds, 100 * share,
                  seconds > 0 ? flops / seconds / 1e9 : 0, seconds > 0 ? bytes / seconds / 1e9 : 0, 100 * limit_share);
    text += line;
  }
  std::snprintf(line, sizeof line, "%-22s %8d %9.1f\n", "steps", table.at("steps").get<int>(),
                1e3 * table.at("seconds").get<double>());
  return text + line;
}

std::string trace_events(std::span<const profile::Span> spans, int rank) {
  std::string text =
      to_line({{"name", "process_name"}, {"ph", "M"}, {"pid", rank}, {"args", {{"name", join("rank ", rank)}}}});
  const int thread_id = training_thread(spans);
  std::set<int> threads;
  for (const profile::Span& span : spans) threads.insert(span.thread);
  for (const int thread : threads)
    text += ",\n" +
            to_line({{"name", "thread_name"},
                     {"ph", "M"},
                     {"pid", rank},
                     {"tid", thread},
                     {"args", {{"name", thread == thread_id ? std::string("training") : join("thread ", thread)}}}});
  for (const profile::Span& span : spans) {
    Json event = {{"name", span.number < 0 ? std::string(span.name) : join(span.name, " ", span.number)},
                  {"ph", "X"},
                  {"pid", rank},
                  {"tid", span.thread},
                  {"ts", span.begin_s * 1e6},
                  {"dur", (span.end_s - span.begin_s) * 1e6}};
    if (span.cost.flops > 0 || span.cost.bytes > 0)
      event["args"] = {{"flops", span.cost.flops}, {"bytes", span.cost.bytes}};
    text += ",\n" + to_line(event);
  }
  return text;
}

std::string write_profile(const std::filesystem::path& run, std::span<const profile::Span> spans, int steps,
                          const DevicePeaks& peaks, Group& world_group) {
  const std::vector<std::string> events = world_group.all_gather_text(trace_events(spans, world_group.rank()));
  const Json table = profile_table(spans, steps, peaks);
  if (world_group.rank() == 0) {
    std::string trace = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
    for (std::size_t rank = 0; rank < events.size(); ++rank) trace += (rank > 0 ? ",\n" : "") + events[rank];
    std::filesystem::create_directories(run / "profile");
    atomic_write_file(run / "profile" / "trace.json", trace + "\n]}\n");
    atomic_write_file(run / "profile" / "table.json", to_pretty(table));
  }
  return to_text(table);
}

}  // namespace slipway
