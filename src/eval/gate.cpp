#include "src/eval/gate.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <sstream>

#include "src/core/clock.hpp"
#include "src/core/hash.hpp"

namespace slipway {
namespace {

std::string comparison_text(Compare compare) {
  switch (compare) {
    case Compare::kAtMost: return "<= threshold";
    case Compare::kBelow: return "< threshold";
    case Compare::kAbove: return "> threshold";
    case Compare::kWithin: return "in [threshold[0], threshold[1]]";
  }
  return "";
}

/// False for NaN.
bool passes(double value, Compare compare, const Json& threshold) {
  if (compare == Compare::kWithin)
    return value >= threshold.at(0).get<double>() && value <= threshold.at(1).get<double>();
  const double bound = threshold.get<double>();
  return compare == Compare::kAtMost ? value <= bound : compare == Compare::kBelow ? value < bound : value > bound;
}

/// Whether an error ends the whole command (storage, device, bug) rather than one gate.
bool is_fatal(Fault fault) { return fault == Fault::kStorage || fault == Fault::kDevice || fault == Fault::kBug; }

std::string format_number(double value) {
  std::ostringstream text;
  text << std::setprecision(6) << value;
  return text.str();
}

/// `text` with newlines and tabs escaped, for a row of a table.
std::string escape_whitespace(std::string_view text) {
  std::string line;
  for (const char byte : text)
    line += byte == '\n' ? "\\n" : byte == '\r' ? "\\r" : byte == '\t' ? "\\t" : std::string(1, byte);
  return line;
}

}  // namespace

std::string_view name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass: return "pass";
    case Verdict::kWarn: return "warn";
    case Verdict::kFail: return "fail";
    case Verdict::kNotApplicable: return "not_applicable";
    case Verdict::kNotEvaluated: return "not_evaluated";
  }
  return "";
}

Json to_json(const GateRecord& record) {
  Json json = {{"id", record.id},
               {"verdict", name(record.verdict)},
               {"value", nullptr},
               {"unit", record.unit},
               {"threshold", record.threshold},
               {"formula", record.formula},
               {"explanation", record.explanation},
               {"inputs", record.inputs},
               {"evidence_sha256", nullptr},
               {"owner", record.owner},
               {"reason", record.reason},
               {"duration_ms", record.duration_ms}};
  if (!record.value) return json;
  json["value"] = *record.value;
  json["evidence_sha256"] =
      sha256_hex(to_line({{"id", record.id}, {"inputs", record.inputs}, {"value", json["value"]}}));
  return json;
}

GateRecord Gates::new_record(const std::string& id) const {
  const GatePolicy& gate = policy_.at(id);
  return {.id = id, .unit = gate.unit, .threshold = gate.value, .owner = gate.owner, .reason = gate.reason};
}

void Gates::add(const std::string& id, Verdict verdict, const std::string& explanation) {
  GateRecord record = new_record(id);
  record.verdict = verdict;
  record.explanation = explanation;
  records_.push_back(std::move(record));
}

void Gates::judge(const std::string& id, Compare compare, const std::string& quantity,
                  const std::function<Measurement()>& measure) {
  const GatePolicy& gate = policy_.at(id);
  if (gate.level == "off") return not_applicable(id, "switched off by the policy: " + gate.reason);
  GateRecord record = new_record(id);
  record.formula = quantity + " " + comparison_text(compare);
  const double begin_s = now_s();
  try {
    record.threshold = gate.threshold(architecture_);
    Measurement measurement = measure();
    record.value = measurement.value;
    record.explanation = std::move(measurement.explanation);
    record.inputs = std::move(measurement.inputs);
    record.verdict = passes(measurement.value, compare, record.threshold) ? Verdict::kPass
                     : gate.level == "warn"                               ? Verdict::kWarn
                                                                          : Verdict::kFail;
  } catch (const Error& error) {
    if (is_fatal(error.fault())) throw;
    record.verdict = gate.level == "warn" ? Verdict::kWarn : Verdict::kNotEvaluated;
    record.explanation = join("not measured: ", error.what());
  }
  record.duration_ms = (now_s() - begin_s) * 1e3;
  records_.push_back(std::move(record));
}

int Gates::count(Verdict verdict) const {
  return static_cast<int>(
      std::count_if(records_.begin(), records_.end(), [&](const GateRecord& r) { return r.verdict == verdict; }));
}

bool Gates::passed() const { return count(Verdict::kFail) == 0 && count(Verdict::kNotEvaluated) == 0; }

std::string Gates::blocking_gates() const {
  std::string ids;
  for (const GateRecord& record : records_)
    if (record.verdict == Verdict::kFail || record.verdict == Verdict::kNotEvaluated)
      ids += (ids.empty() ? "" : ", ") + record.id;
  return ids;
}

std::string Gates::table() const {
  std::vector<std::array<std::string, 5>> rows = {{"gate", "verdict", "value", "threshold", "found"}};
  for (const GateRecord& record : records_) {
    const std::string unit = record.unit == "1" ? "" : " " + record.unit;
    rows.push_back({record.id, std::string(name(record.verdict)), record.value ? format_number(*record.value) : "-",
                    record.formula.empty() ? "-" : to_line(record.threshold) + unit,
                    escape_whitespace(record.explanation)});
  }
  std::array<std::size_t, 4> widths{};  // the last column is not padded
  for (const auto& row : rows)
    for (std::size_t c = 0; c < widths.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  std::string text;
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < widths.size(); ++c) text += row[c] + std::string(widths[c] + 2 - row[c].size(), ' ');
    text += row.back() + "\n";
  }
  return text;
}

void Gates::add_to(Json& report) const {
  report["passed"] = passed();
  Json gates = Json::array();
  for (const GateRecord& record : records_) gates.push_back(to_json(record));
  report["gates"] = std::move(gates);
  report["gates_executed"] = count(Verdict::kPass) + count(Verdict::kWarn) + count(Verdict::kFail);
  report["gates_failed"] = count(Verdict::kFail);
  report["gates_warned"] = count(Verdict::kWarn);
  report["gates_not_applicable"] = count(Verdict::kNotApplicable);
  report["gates_not_evaluated"] = count(Verdict::kNotEvaluated);
  report["policy"] = {{"source", policy_.source()}, {"sha256", policy_.sha256()}};
}

}  // namespace slipway
