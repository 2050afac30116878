// slipway plan: what a run will need, before it is run.
#include <iostream>

#include "launch/command.hpp"
#include "src/core/clock.hpp"
#include "src/core/json.hpp"
#include "src/data/corpus.hpp"
#include "src/train/plan.hpp"

namespace slipway {
namespace {

struct PlanOptions {
  int ranks = 1;
  int vocabulary = 16384;
  Flag json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("ranks", self.ranks, "ranks that will run: data ranks x mesh.tensor");
    visit("vocabulary", self.vocabulary, "token ids, where no data.path says it");
    visit("json", self.json, "print one JSON object");
  }
};

void print(const RunPlan& plan, const ModelDescription& model, const RunConfig& config, int data_ranks) {
  const auto bytes = [](std::uint64_t count) { return human_bytes(static_cast<double>(count)); };
  const auto line = [](const char* what, const std::string& value) {
    std::cout << "  " << what << std::string(26 - std::string(what).size(), ' ') << value << "\n";
  };
  std::cout << model.name << ": " << model.layers << " x " << model.width << ", " << model.heads << " heads ("
            << model.kv_heads << " kv), ffn " << model.ffn << ", vocabulary " << model.vocabulary
            << (model.tied ? ", tied" : "") << "\n";
  line("parameters", join(parameter_count(model, true), " (", parameter_count(model, false), " without embeddings)"));
  line("ranks", join(data_ranks, " data x ", config.layout.tensor, " tensor"));
  std::cout << "memory of a rank\n";
  const MemoryPlan& m = plan.memory;
  line("weights, f32", bytes(m.weights));
  if (m.compute_copy != 0) line("weights, bf16 copy", bytes(m.compute_copy));
  line("gradients", bytes(m.gradients));
  line("slots' partial gradients",
       join(bytes(m.slot_partials), " (", plan.slots, " slots; numerics.slots = data ranks makes it least)"));
  line(config.optim.is_muon() ? "Muon's, AdamW's moments" : "AdamW's moments", bytes(m.moments));
  if (config.optim.is_muon()) line("Muon's whole matrices", bytes(m.orthogonal));
  line("activations", bytes(m.activations));
  line("logits, one chunk", bytes(m.logits));
  line("checkpoint staging", bytes(m.staging));
  line("together", bytes(m.total()));
  std::cout << "a step\n";
  line("matrix products", join(human_count(plan.step_flops), " operations (6 x matmul parameters x tokens)"));
  line("attention", join(human_count(plan.step_attention_flops), " operations"));
  if (config.optim.is_muon())
    line("Muon's products", join(human_count(plan.step_orthogonal_flops), " operations on the busiest rank"));
  line("sent by a rank", bytes(plan.reduce_bytes));
  if (config.optim.is_muon())
    line("and by Muon", join(bytes(plan.orthogonal_bytes), ": parts of matrices, there and back"));
  line("checkpoint", bytes(plan.checkpoint_bytes));
}

}  // namespace

int command_plan(const Arguments& arguments) {
  PlanOptions options;
  RunConfig config;
  Fields fields;
  fields.add(options);
  config.add_to(fields);
  fields.alias("data", "data.path");
  if (!read_arguments(fields, arguments,
                      "slipway plan [--ranks N] [--key value]...\n\nParameters, operations, and bytes of a rank by "
                      "kind, for the run that these keys describe."))
    return 0;
  arguments.refuse_targets("plan");
  fields.keep_latest(kLengthKeys);
  std::int64_t epoch = 1;
  if (!config.data.path.empty()) {
    const Corpus corpus = Corpus::open(config.data.path);
    options.vocabulary = corpus.tokenizer().vocabulary();
    epoch = std::max<std::int64_t>(1, corpus.tokens(Split::kTrain) / config.train.sequence);
  }
  config.resolve(epoch);
  if (options.ranks < 1 || options.ranks % config.layout.tensor != 0)
    throw Error(Fault::kConfig, join("--ranks ", options.ranks, " is no multiple of mesh.tensor ", config.layout.tensor,
                                     "; change one of them"));
  const int data_ranks = options.ranks / config.layout.tensor;
  const ModelDescription model = config.model.describe(options.vocabulary);
  const RunPlan plan = plan_run(config, model, data_ranks);
  if (!options.json) {
    print(plan, model, config, data_ranks);
    return 0;
  }
  Json json = {{"schema", "slipway.plan"},
               {"schema_version", 1},
               {"model", model.name},
               {"layers", model.layers},
               {"width", model.width},
               {"heads", model.heads},
               {"kv_heads", model.kv_heads},
               {"ffn", model.ffn},
               {"tied", model.tied},
               {"vocabulary", model.vocabulary},
               {"context", model.context},
               {"peak_lr", config.optim.peak_lr},
               {"parameters", parameter_count(model, true)},
               {"parameters_without_embeddings", parameter_count(model, false)},
               {"data_ranks", data_ranks},
               {"tensor_ranks", config.layout.tensor}};
  json.update(to_json(plan));
  std::cout << to_line(json) << "\n";
  return 0;
}

}  // namespace slipway
