// The policy file: thresholds come from it alone, and nonsense in it is refused.
#include "src/eval/policy.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "src/core/file.hpp"
#include "src/eval/gate.hpp"
#include "tests/support/core_files.hpp"

namespace slipway {
namespace {

QaPolicy load_policy(const std::string& gates) {
  const ScratchFolder folder;
  atomic_write_file(folder / "policy.json",
                    R"({"schema": "slipway.qa_policy", "schema_version": 1, "gates": [)" + gates + "]}");
  return QaPolicy::load(folder / "policy.json");
}

constexpr char kWarnOnly[] =
    R"({"id": "export_logits", "value": 0.5, "unit": "logit", "level": "warn", "owner": "me", "reason": "a trial"})";

TEST(QaPolicyTest, AFileReplacesTheEntriesThatItHasAndKeepsTheRest) {
  const QaPolicy built_in = QaPolicy::built_in(), policy = load_policy(kWarnOnly);
  EXPECT_EQ(policy.at("export_logits").value, 0.5);
  EXPECT_EQ(policy.at("export_logits").owner, "me");
  EXPECT_EQ(policy.at("export_ids").value, built_in.at("export_ids").value);
  EXPECT_NE(policy.sha256(), built_in.sha256());
  EXPECT_EQ(load_policy("").sha256(), built_in.sha256());
}

TEST(QaPolicyTest, NonsenseIsRefusedWithTheGateAndWhatIsExpected) {
  const auto expect_refused = [](const std::string& gates, const std::string& substring) {
    expect_error(Fault::kConfig, substring, [&] { load_policy(gates); });
  };
  expect_refused(R"({"id": "export_logit", "value": 1, "unit": "logit", "level": "fail", "owner": "a", "reason": "b"})",
                 "did you mean export_logits?");
  expect_refused(R"({"id": "export_logits", "value": 1, "unit": "ms", "level": "fail", "owner": "a", "reason": "b"})",
                 "is in logit");
  expect_refused(
      R"({"id": "export_logits", "value": [1, 2], "unit": "logit", "level": "fail", "owner": "a", "reason": "b"})",
      "a number is expected");
  expect_refused(
      R"({"id": "export_logits", "value": "1", "unit": "logit", "level": "fail", "owner": "a", "reason": "b"})",
      "no number");
  expect_refused(
      R"({"id": "export_logits", "value": 1, "unit": "logit", "level": "shout", "owner": "a", "reason": "b"})",
      "'shout'");
  expect_refused(R"({"id": "export_logits", "value": 1, "unit": "logit", "level": "fail", "owner": "", "reason": "b"})",
                 "no owner");
  expect_refused(R"({"id": "export_logits", "value": 1, "unit": "logit", "level": "fail", "owner": "a"})", "reason");
  expect_refused("7", "each gate has");
}

TEST(QaPolicyTest, AFileOfAnotherSchemaIsRefused) {
  const ScratchFolder folder;
  for (const std::string text : {R"({"schema": "other"})", "[]", "{"}) {
    atomic_write_file(folder / "policy.json", text);
    expect_error(Fault::kConfig, "policy.json", [&] { QaPolicy::load(folder / "policy.json"); });
  }
  expect_error(Fault::kConfig, "absent.json", [&] { QaPolicy::load(folder / "absent.json"); });
}

Verdict judge_value(const QaPolicy& policy, Compare compare, const std::string& id, double value,
                    const std::string& architecture = "llama") {
  Gates gates(policy, architecture);
  gates.judge(id, compare, "x", [&] { return Measurement{value, "measured"}; });
  return gates.records().front().verdict;
}

TEST(GatesTest, AThresholdIsAtMostBelowAboveOrWithinAndNanPassesNone) {
  const QaPolicy policy = QaPolicy::built_in();
  EXPECT_EQ(judge_value(policy, Compare::kAtMost, "export_ids", 0), Verdict::kPass);
  EXPECT_EQ(judge_value(policy, Compare::kAtMost, "export_ids", 1), Verdict::kFail);
  EXPECT_EQ(judge_value(policy, Compare::kBelow, "loss_below_unigram", -0.1), Verdict::kPass);
  EXPECT_EQ(judge_value(policy, Compare::kBelow, "loss_below_unigram", 0), Verdict::kFail);
  EXPECT_EQ(judge_value(policy, Compare::kAbove, "bench_decode_speed", 0.1), Verdict::kPass);
  EXPECT_EQ(judge_value(policy, Compare::kAbove, "bench_decode_speed", 0), Verdict::kFail);
  EXPECT_EQ(judge_value(policy, Compare::kWithin, "rope_base", 1e4, "llama"), Verdict::kPass);
  EXPECT_EQ(judge_value(policy, Compare::kWithin, "rope_base", 1e4, "qwen2"), Verdict::kFail);
  for (const Compare compare : {Compare::kAtMost, Compare::kBelow, Compare::kAbove})
    EXPECT_EQ(judge_value(policy, compare, "export_ids", std::nan("")), Verdict::kFail);
}

TEST(GatesTest, APolicyThatWarnsDoesNotBlockAndOneThatIsOffIsVisible) {
  EXPECT_EQ(judge_value(load_policy(kWarnOnly), Compare::kAtMost, "export_logits", 0.6), Verdict::kWarn);
  const QaPolicy off = load_policy(
      R"({"id": "export_logits", "value": 1, "unit": "logit", "level": "off", "owner": "a", "reason": "known bad"})");
  Gates gates(off, "llama");
  gates.judge("export_logits", Compare::kAtMost, "x",
              []() -> Measurement { throw std::runtime_error("must not run"); });
  EXPECT_EQ(gates.records().front().verdict, Verdict::kNotApplicable);
  EXPECT_NE(gates.records().front().explanation.find("known bad"), std::string::npos);
}

TEST(GatesTest, WhatCannotBeMeasuredBlocksAndFaultsOfTheDiskGoThrough) {
  const QaPolicy policy = QaPolicy::built_in();
  Gates gates(policy, "llama");
  gates.judge("export_ids", Compare::kAtMost, "x", []() -> Measurement { throw Error(Fault::kNumeric, "no number"); });
  EXPECT_EQ(gates.records().front().verdict, Verdict::kNotEvaluated);
  EXPECT_NE(gates.records().front().explanation.find("no number"), std::string::npos);
  EXPECT_FALSE(gates.passed());
  EXPECT_EQ(gates.blocking_gates(), "export_ids");
  expect_error(Fault::kStorage, "disk", [&] {
    gates.judge("export_ids", Compare::kAtMost, "x", []() -> Measurement { throw Error(Fault::kStorage, "disk"); });
  });
}

TEST(GatesTest, AnArchitectureWithoutAThresholdIsNotEvaluated) {
  EXPECT_EQ(judge_value(QaPolicy::built_in(), Compare::kWithin, "rope_base", 1e4, "gpt2"), Verdict::kNotEvaluated);
}

}  // namespace
}  // namespace slipway
