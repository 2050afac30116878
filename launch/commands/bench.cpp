// slipway bench MODEL: prompt and decode speed, with raw samples; the exit status says what `passed` says.
#include "src/eval/bench.hpp"

#include <iostream>

#include "kernels/backend/device.hpp"
#include "launch/commands/command.hpp"

namespace slipway {
namespace {

constexpr Usage kBenchUsage{
    .summary = "Measures the speed of reading a prompt and of decoding: medians, and every sample.",
    .synopsis =
        "slipway bench MODEL [--prompt N] [--tokens N] [--batch N] [--iterations N] [--warmup N] [--policy FILE]\n"
        "    [--json]",
    .example = "slipway bench model.gguf --prompt 512 --tokens 128",
    .notes =
        "MODEL is a run folder, a checkpoint folder, a .gguf or a Hugging Face folder.\n"
        "Exit status 8 when the policy's floor is not reached."};

struct BenchFlags {
  std::string policy;
  Flag json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("policy", self.policy, {"gates that replace those of configs/qa_policy.json (JSON)", "FILE"});
    visit("json", self.json, "print one JSON object");
  }
};

}  // namespace

int command_bench(const Arguments& arguments) {
  BenchFlags flags;
  BenchConfig config;
  LoadOptions load{.compute = "file"};
  Fields fields;
  fields.add(flags);
  fields.add(config);
  fields.add(load);
  if (!read_arguments(fields, arguments, kBenchUsage)) return 0;
  config.check();
  const QaPolicy policy = flags.policy.empty() ? QaPolicy::built_in() : QaPolicy::load(flags.policy);
  const std::string& path =
      arguments.positional("a model: a run folder, a checkpoint folder, a .gguf or a Hugging Face folder");
  ModelBundle bundle = open_model(path, load.checkpoint);
  if (load.compute == "file")
    load.compute = default_compute_type(bundle, backend_for(load.device, 0, load.instructions).native_bf16);
  LoadedModel model(std::move(bundle), load);

  const BenchReport report = run_bench(model, config, policy);
  if (flags.json) std::cout << to_line(report.json) << "\n";
  else std::cout << report.table;
  if (report.passed) return 0;
  throw Error(Fault::kGate, join(path, " is too slow: ", report.blocking_gates,
                                 "; the table has the numbers, the policy the floors"));
}

}  // namespace slipway
