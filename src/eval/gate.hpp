// Gates: each compares one measured value with a threshold of the policy, and explains its verdict.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/eval/policy.hpp"

namespace slipway {

enum class Verdict {
  kPass,
  kWarn,  ///< would fail, but the policy only warns
  kFail,
  kNotApplicable,  ///< does not apply to this model; the explanation says why
  kNotEvaluated,   ///< could not be measured, which blocks like a failure
};
std::string_view name(Verdict verdict);  ///< "pass", "warn", "fail", "not_applicable", "not_evaluated"

/// How a value must compare with its threshold for the gate to pass.
enum class Compare { kAtMost, kBelow, kAbove, kWithin };

/// What a gate measured.
struct Measurement {
  double value = 0;
  std::string explanation;       ///< a sentence: the finding, and what to do about it
  Json inputs = Json::object();  ///< what it was measured on
};

/// One row of the table.
struct GateRecord {
  std::string id;
  Verdict verdict = Verdict::kNotEvaluated;
  std::optional<double> value;
  std::string unit;
  Json threshold;
  std::string formula;  ///< what is measured and how it is compared
  std::string explanation;
  Json inputs = Json::object();
  std::string owner, reason;  ///< from the policy
  double duration_ms = 0;
};
Json to_json(const GateRecord& record);

/// Collects verdicts. A gate that fails, or could not be measured, blocks.
class Gates {
 public:
  Gates(const QaPolicy& policy, std::string architecture) : policy_(policy), architecture_(std::move(architecture)) {}

  /// Measures and judges. `quantity` describes the measured quantity, for the record's formula.
  /// Errors   Fault::kStorage, kDevice and kBug of `measure` are rethrown; any other error makes the gate
  ///          not_evaluated.
  void judge(const std::string& id, Compare compare, const std::string& quantity,
             const std::function<Measurement()>& measure);
  void not_applicable(const std::string& id, const std::string& explanation) {
    add(id, Verdict::kNotApplicable, explanation);
  }
  void not_evaluated(const std::string& id, const std::string& explanation) {
    add(id, Verdict::kNotEvaluated, explanation);
  }

  const QaPolicy& policy() const { return policy_; }
  std::span<const GateRecord> records() const { return records_; }
  int count(Verdict verdict) const;
  bool passed() const;                 ///< no gate failed, and none is not_evaluated
  std::string blocking_gates() const;  ///< ids of the gates that failed or could not be measured, joined by ", "
  std::string table() const;           ///< aligned lines for people
  void add_to(Json& report) const;     ///< `passed`, `gates`, `gates_*` counts, `policy`

 private:
  void add(const std::string& id, Verdict verdict, const std::string& explanation);
  GateRecord new_record(const std::string& id) const;

  const QaPolicy& policy_;
  std::string architecture_;
  std::vector<GateRecord> records_;
};

}  // namespace slipway
