// qa: a good model passes, and every gate fails on the defect that it checks for.
#include "src/eval/qa.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "src/eval/qa_gates.hpp"
#include "src/export/export.hpp"
#include "tests/support/core_files.hpp"
#include "tests/support/random_model.hpp"
#include "tests/support/tiny_tokenizer.hpp"

namespace slipway {
namespace {

/// A model in memory, as open_model() would give it; what a test breaks, it breaks in its parts.
struct TestModel {
  explicit TestModel(const std::string& architecture = "llama") : spec(test::tiny_spec(architecture, true)) {
    spec.rope_base = architecture.starts_with("qwen") ? 1e6 : 10000;
    spec.provenance = {{"license", "CC0-1.0"}, {"corpus_sha256", "00"}};
    tokenizer = std::make_shared<Tokenizer>(test::tiny_tokenizer(spec.vocabulary));
    weights = std::make_shared<test::RandomWeights>(spec, /*seed=*/4, /*scale=*/0.5f);
  }
  ModelBundle bundle() const {
    return {.path = "subject", .kind = "gguf", .folder = file, .spec = spec, .tokenizer = tokenizer, .source = weights};
  }
  ModelSpec spec;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<test::RandomWeights> weights;
  std::filesystem::path file = [] {  // the report contains its hash
    const auto path = std::filesystem::path(testing::TempDir()) / "slipway-qa-subject";
    atomic_write_file(path, "any bytes");
    return path;
  }();
};

void export_f32(const ModelBundle& bundle, const std::filesystem::path& gguf) {
  export_gguf(bundle.spec, *bundle.tokenizer, *bundle.source, TensorType::kF32, gguf);
}

QaOptions options(const std::string& untrained_reason = "the test's weights are random") {
  return {.load = {.threads = 1}, .exporter = export_f32, .untrained_reason = untrained_reason};
}

/// A sample with a baseline of our choice.
TextSample text_sample(const TestModel& test_model, double unigram_nats) {
  TextSample text = sample_from_text(*test_model.tokenizer,
                                     "the thing in the other thing is on a string; in there, the ring.", "a test");
  text.unigram_nats = unigram_nats;
  return text;
}

const Json& gate(const QaReport& report, const std::string& id) {
  for (const Json& gate_record : report.json["gates"])
    if (gate_record["id"] == id) return gate_record;
  throw std::runtime_error("no gate " + id);
}
std::string verdict(const QaReport& report, const std::string& id) { return gate(report, id)["verdict"]; }
std::string explanation(const QaReport& report, const std::string& id) { return gate(report, id)["explanation"]; }

void expect_fails(const QaReport& report, const std::string& id, const std::string& substring) {
  EXPECT_EQ(verdict(report, id), "fail") << explanation(report, id);
  EXPECT_NE(explanation(report, id).find(substring), std::string::npos) << explanation(report, id);
  EXPECT_FALSE(report.passed);
  EXPECT_NE(report.blocking_gates.find(id), std::string::npos) << report.blocking_gates;
}

TEST(QaTest, AGoodUntrainedModelPassesInEveryFamily) {
  for (const std::string architecture : {"llama", "qwen2", "qwen3", "gpt2"}) {
    const TestModel test_model(architecture);
    const QaReport report = run_qa(test_model.bundle(), options());
    EXPECT_TRUE(report.passed) << architecture << ": " << report.blocking_gates << "\n" << report.table;
    EXPECT_EQ(verdict(report, "export_ids"), "pass");
    EXPECT_EQ(gate(report, "export_logits")["value"], 0.0);
    EXPECT_EQ(verdict(report, "loss_below_unigram"), "not_applicable");
    EXPECT_EQ(explanation(report, "loss_below_unigram"), "the test's weights are random");
  }
}

TEST(QaTest, TheReportCountsItsGatesAndEveryVerdictStandsOnAPolicy) {
  const Json json = run_qa(TestModel().bundle(), options()).json;
  EXPECT_EQ(json["schema"], "slipway.qa");
  EXPECT_EQ(json["gates"].size(), json["gates_executed"].get<std::size_t>() +
                                      json["gates_not_applicable"].get<std::size_t>() +
                                      json["gates_not_evaluated"].get<std::size_t>());
  EXPECT_EQ(json["model_sha256"].get<std::string>().size(), 64u);
  for (const Json& gate_record : json["gates"]) {
    for (const char* key : {"id", "verdict", "unit", "threshold", "explanation", "owner", "reason", "duration_ms"})
      EXPECT_TRUE(gate_record.contains(key)) << gate_record;
    if (gate_record["verdict"] != "pass") continue;
    EXPECT_EQ(gate_record["evidence_sha256"].get<std::string>().size(), 64u) << gate_record;
  }
}

TEST(QaTest, OneNanIsFoundAndNamed) {
  TestModel test_model;
  test_model.weights->at("blk.1.ffn_up.weight")[97] = std::nanf("");
  const QaReport report = run_qa(test_model.bundle(), options());
  expect_fails(report, "tensors_finite", "blk.1.ffn_up.weight holds nan at row 1, column 1");
  EXPECT_EQ(gate(report, "tensors_finite")["value"], 1.0);
  EXPECT_NE(verdict(report, "logits_finite"), "pass");
  EXPECT_EQ(verdict(report, "export_logits"), "not_evaluated");  // the exporter refuses the weights
}

TEST(QaTest, AMatrixOfZerosIsFoundAndABiasOfZerosIsNot) {
  TestModel test_model("qwen2");
  for (float& value : test_model.weights->at("blk.0.attn_v.bias")) value = 0;
  EXPECT_TRUE(run_qa(test_model.bundle(), options()).passed);
  for (float& value : test_model.weights->at("blk.0.attn_k.weight")) value = 0;
  expect_fails(run_qa(test_model.bundle(), options()), "tensors_nonzero", "blk.0.attn_k.weight");
}

TEST(QaTest, TensorsOfAnotherShapeFailAndTheModelIsNotRun) {
  TestModel test_model;
  test_model.spec.ffn = 128;  // the weights have 160
  const QaReport report = run_qa(test_model.bundle(), options());
  expect_fails(report, "tensor_shapes", "configured is");
  EXPECT_EQ(verdict(report, "determinism"), "not_evaluated");
}

TEST(QaTest, AMissingTensorIsNamed) {
  TestModel test_model;
  test_model.spec.tied = false;  // then there must be an output.weight
  expect_fails(run_qa(test_model.bundle(), options()), "tensor_shapes", "output.weight is missing");
}

TEST(QaTest, ATokenizerOfAnotherSizeFails) {
  TestModel test_model;
  test_model.tokenizer = std::make_shared<Tokenizer>(test::tiny_tokenizer(test_model.spec.vocabulary + 1));
  const QaReport report = run_qa(test_model.bundle(), options());
  expect_fails(report, "vocabulary_match", "tokenizer 291, embedding 290");
}

TEST(QaTest, ATokenizerThatLosesBytesFails) {
  TestModel test_model;
  Tokenizer::Parts parts = test_model.tokenizer->parts();
  std::swap(parts.tokens[200], parts.tokens[285]);  // byte 200 has no id any more, and the text of 285 has two
  parts.tokens[200] = "<|lost|>";
  try {
    test_model.tokenizer = std::make_shared<Tokenizer>(Tokenizer::from_parts(parts));
  } catch (const Error&) {
    GTEST_SKIP() << "such a tokenizer cannot even be made, which is better";
  }
  EXPECT_EQ(verdict(run_qa(test_model.bundle(), options()), "tokenizer_round_trip"), "fail");
}

TEST(QaTest, ImplausibleKeysFailOneByOne) {
  const auto run_with = [](const std::string& architecture, auto modify) {
    TestModel test_model(architecture);
    modify(test_model.spec);
    return run_qa(test_model.bundle(), options());
  };
  expect_fails(run_with("qwen2", [](ModelSpec& m) { m.rope_base = 10000; }), "rope_base", "10000");
  expect_fails(run_with("llama", [](ModelSpec& m) { m.rope_base = 10; }), "rope_base", "10");
  expect_fails(run_with("llama", [](ModelSpec& m) { m.norm_eps = 0.1; }), "norm_eps", "0.1");
  expect_fails(run_with("llama", [](ModelSpec& m) { m.context = 2000000; }), "context_length", "2e+06");
  expect_fails(run_with("llama", [](ModelSpec& m) { m.name = ""; }), "metadata_complete", "name");
}

TEST(QaTest, UnknownProvenanceWarnsAndDoesNotBlock) {
  TestModel test_model;
  test_model.spec.provenance.clear();
  const QaReport report = run_qa(test_model.bundle(), options());
  EXPECT_EQ(verdict(report, "provenance"), "warn");
  EXPECT_TRUE(report.passed);
}

TEST(QaTest, AnExportWithOtherWeightsFails) {
  const TestModel test_model;
  QaOptions qa_options = options();
  qa_options.exporter = [](const ModelBundle& bundle, const std::filesystem::path& gguf) {
    test::RandomWeights swapped(bundle.spec, /*seed=*/4, /*scale=*/0.5f);
    std::vector<float>& embedding = swapped.at("token_embd.weight");
    std::swap_ranges(embedding.begin(), embedding.begin() + 96 * 140, embedding.begin() + 96 * 140);  // rows of tokens
    export_gguf(bundle.spec, *bundle.tokenizer, swapped, TensorType::kF32, gguf);
  };
  const QaReport report = run_qa(test_model.bundle(), qa_options);
  expect_fails(report, "export_logits", "logits");
  expect_fails(report, "export_ids", "from the export");
}

TEST(QaTest, WithoutAnExporterTheExportIsNotEvaluatedAndThatBlocks) {
  QaOptions qa_options = options();
  qa_options.exporter = {};
  const QaReport report = run_qa(TestModel().bundle(), qa_options);
  EXPECT_EQ(verdict(report, "export_ids"), "not_evaluated");
  EXPECT_FALSE(report.passed);
}

TEST(QaTest, LossIsHeldAgainstTheUnigramBaseline) {
  const TestModel test_model;
  QaOptions qa_options = options("");
  qa_options.text = text_sample(test_model, 20.0);
  EXPECT_EQ(verdict(run_qa(test_model.bundle(), qa_options), "loss_below_unigram"), "pass");
  qa_options.text = text_sample(test_model, 0.5);
  expect_fails(run_qa(test_model.bundle(), qa_options), "loss_below_unigram", "0.5 nats a token");
}

TEST(QaTest, WithoutTextTheLossGatesFollowThePolicy) {
  TestModel test_model;
  EXPECT_EQ(verdict(run_qa(test_model.bundle(), options("")), "loss_below_unigram"), "not_applicable");
  ModelBundle bundle = test_model.bundle();
  bundle.kind = "checkpoint";
  const QaReport report = run_qa(bundle, options(""));
  EXPECT_EQ(verdict(report, "loss_below_unigram"), "not_evaluated");
  EXPECT_NE(explanation(report, "loss_below_unigram").find("--text FILE"), std::string::npos);
  EXPECT_FALSE(report.passed);
}

TEST(QaTest, UntrainedWeightsFarFromUniformFail) {
  TestModel test_model;
  for (float& value : test_model.weights->at("token_embd.weight")) value *= 60;
  expect_fails(run_qa(test_model.bundle(), options()), "loss_at_init", "ln vocabulary");
}

TEST(GibberishTest, EachSignalIsSeenAndTextIsNot) {
  EXPECT_TRUE(
      qa::gibberish_signals("def area(r):\n    if r < 0:\n            return 0\n    return 3.14 * r * r\n").empty());
  EXPECT_TRUE(qa::gibberish_signals("").empty());
  const auto first_signal = [](std::string_view text) {
    return qa::gibberish_signals(text).empty() ? "" : qa::gibberish_signals(text).front();
  };
  EXPECT_NE(first_signal("44444444").find("8 of 8 characters are the same"), std::string::npos);
  EXPECT_NE(first_signal("so then and then and then and then it").find("three times in a row"), std::string::npos);
  EXPECT_NE(first_signal("\xc3\xa9\xc3\xa8\xc3\xa0 a").find("not ASCII"), std::string::npos);
  EXPECT_NE(first_signal("abcdef \xef\xbf\xbd ghijklmno").find("U+FFFD"), std::string::npos);
}

TEST(GatesTest, AFindingWithLineEndsIsOneRowOfTheTable) {
  const QaPolicy policy = QaPolicy::built_in();
  Gates gates(policy, "llama");
  gates.not_applicable("golden_output", "it wrote\n\tx\r\nagain");
  const std::string table = gates.table();
  EXPECT_EQ(std::ranges::count(table, '\n'), 2) << table;  // the heading, and the row
  EXPECT_NE(table.find("it wrote\\n\\tx\\r\\nagain"), std::string::npos) << table;
}

TEST(TextSampleTest, TheUnigramBaselineIsTheFormulaWorkedOutByHand) {
  const Tokenizer tokenizer = test::tiny_tokenizer(290);
  const TextSample text = sample_from_text(tokenizer, "zzq", "hand");  // z z q: -2/3 ln(2 / 292) - 1/3 ln(1 / 292)
  EXPECT_NEAR(text.unigram_nats, std::log(292.0) - 2.0 / 3.0 * std::log(2.0), 1e-12);
  ASSERT_EQ(text.pieces.size(), 1u);
  EXPECT_EQ(text.pieces[0], tokenizer.encode("zzq"));
}

}  // namespace
}  // namespace slipway
