#include "src/eval/qa.hpp"

#include "src/core/clock.hpp"
#include "src/eval/provenance.hpp"
#include "src/eval/qa_gates.hpp"
#include "src/model/model_config.hpp"
#include "src/model/model_tensors.hpp"

namespace slipway {
namespace {

/// Whether the file passes the gates without which its weights cannot be loaded into a model.
bool can_run(const Gates& gates) {
  for (const GateRecord& record : gates.records())
    for (const char* id : {"metadata_complete", "vocabulary_match", "tensor_shapes"})
      if (record.id == id && record.verdict != Verdict::kPass) return false;
  return true;
}

void judge_model_gates(Gates& gates, const ModelBundle& bundle, const QaOptions& options, Json& report) {
  if (!can_run(gates)) {
    for (const char* id : {"logits_finite", "determinism", "incremental_decoding", "export_ids", "export_logits",
                           "loss_at_init", "loss_below_uniform", "loss_below_unigram", "golden_output"})
      gates.not_evaluated(id, "the model cannot run: a gate above says why");
    return;
  }
  LoadedModel model(bundle, options.load);
  add_provenance(report, model);
  report["parameters"] = parameter_count(bundle.spec, /*with_embeddings=*/true);
  qa::judge_decoding(gates, model);
  qa::judge_export(gates, model, options);
  qa::judge_learning(gates, model, options);
}

}  // namespace

QaReport run_qa(const ModelBundle& bundle, const QaOptions& options) {
  const double begin_s = now_s();
  Gates gates(options.policy, bundle.spec.architecture);
  Json report = {{"schema", "slipway.qa"},
                 {"schema_version", 1},
                 {"model", bundle.path},
                 {"kind", bundle.kind},
                 {"passed", false}};
  if (bundle.kind == "checkpoint") report["step"] = bundle.step;
  if (options.text) report["text"] = options.text->source;

  qa::judge_tokenizer(gates, bundle);
  qa::judge_metadata(gates, bundle);
  qa::judge_tensors(gates, bundle);
  judge_model_gates(gates, bundle, options, report);

  gates.add_to(report);
  report["total_duration_ms"] = (now_s() - begin_s) * 1e3;
  return {.json = std::move(report),
          .table = gates.table(),
          .passed = gates.passed(),
          .blocking_gates = gates.blocking_gates()};
}

}  // namespace slipway
