#include "launch/run_folder/fork.hpp"

#include "comm/agreement.hpp"
#include "io/checkpoint/manifest_errors.hpp"
#include "io/model/model_spec_json.hpp"
#include "launch/commands/initial_weights.hpp"
#include "launch/run_folder/resume.hpp"
#include "src/core/log.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;

/// Whether a change of the key is recorded and logged: not for paths, layout and reporting.
bool is_recorded(const Fields& fields, const std::string& key) {
  const ResumePolicy resume_policy = fields.at(key).resume_policy;
  return resume_policy == ResumePolicy::kImmutable || resume_policy == ResumePolicy::kRunLength;
}

}  // namespace

ForkSource open_fork(const std::string& path, const std::string& selector, Group& world_group) {
  std::string folder;
  run_collectively(world_group, [&] {
    if (world_group.rank() == 0) folder = find_checkpoint(path, selector).folder.string();
  });
  folder = world_group.all_gather_text(folder).front();
  verify_on_all_ranks(folder, world_group);
  ForkSource source{.checkpoint = {0, folder}, .info = read_manifest(folder).info};
  source.checkpoint.step = source.info.step;
  source.parent_folder = fs::absolute(folder).lexically_normal().parent_path().parent_path();

  RunConfig config;
  Fields fields;
  config.add_to(fields);
  const auto keep_known_keys = [&](const Values& values) {
    Values result;
    for (auto [key, value] : values) {
      if (!fields.has(key) || key.starts_with("fault.") || key == "train.init" || key == "train.fork") continue;
      if (fields.at(key).resume_policy == ResumePolicy::kPath && !value.empty() && fs::path(value).is_relative())
        value = (source.parent_folder / value).lexically_normal().string();
      result[key] = value;
    }
    return result;
  };
  with_manifest_errors(folder, [&] {
    source.values = keep_known_keys(values_of(source.info.config));
    if (source.values["numerics.compute"] == "auto")  // as earlier versions kept it
      source.values["numerics.compute"] = source.info.build.value("compute", "auto");
    const Json saved_overrides =
        source.info.sections.value("asked", source.info.config);  // earlier versions kept no record
    source.overrides = keep_known_keys(values_of(saved_overrides));
  });
  return source;
}

RunProgress fork_progress(const ForkSource& source, const RunConfig& config, const Corpus& corpus) {
  RunProgress progress = progress_of(source.info);
  Loader loader(corpus, Split::kTrain, config.data, config.train.sequence, config.train.seed);
  loader.restore_nearest(source.info.data.value("loader", Json::object()));
  progress.consumed_sequences = static_cast<std::int64_t>(loader.cursor());
  return progress;
}

void check_fork(const ForkSource& source, const RunConfig& config, const Corpus& corpus, bool data_given) {
  const std::string folder = source.checkpoint.folder.string();
  const ModelSpec spec = config.model.spec(corpus.tokenizer().vocabulary_size());
  const std::string mismatch = describe_difference(spec, spec_from_json(source.info.architecture, folder));
  if (!mismatch.empty())
    throw Error(Fault::kConfig, join("--fork ", folder, " is of another shape: ", mismatch,
                                     "; a fork may change any key but the model's shape. Leave that out, or begin a "
                                     "new run with --run alone"));
  if (!data_given && source.info.data.value("corpus_sha256", "") != corpus.corpus_sha256())
    throw Error(Fault::kData,
                join("the data in ", config.data.path, " is not what the parent ", source.parent_folder.string(),
                     " was trained on (its corpus_sha256 differs): put that back, or name the data to go "
                     "on with by --data DIR"));
  const Tokenizer parent_tokenizer = Tokenizer::from_json(source.info.tokenizer, join("the tokenizer in ", folder));
  if (parent_tokenizer.parts().tokens != corpus.tokenizer().parts().tokens)
    throw Error(Fault::kConfig, join("--fork ", folder, " knows other tokens than the data folder ", config.data.path,
                                     ": prepare the text again with the parent's tokenizer"));
  if (config.train.steps <= source.info.step)
    throw Error(Fault::kConfig,
                join("the checkpoint ", folder, " is of step ", source.info.step, " and train.steps is ",
                     config.train.steps, ": nothing is left to train; give --train.steps above ", source.info.step,
                     ", or choose an earlier one with --checkpoint"));
}

Fork inherit_from_parent(const ForkSource& source, const Values& values, const fs::path& run_folder, bool is_rank0) {
  const CheckpointInfo& info = source.info;
  RunConfig config;
  Fields fields;
  config.add_to(fields);
  Json changed = Json::object();
  std::string changes;
  for (const auto& [key, value] : values) {
    const auto old_value = source.values.find(key);
    if (old_value == source.values.end() || old_value->second == value || !is_recorded(fields, key)) continue;
    changed[key] = {old_value->second, value};
    changes += join(changes.empty() ? "" : ", ", key, " ", old_value->second, " -> ", value);
  }
  Fork fork{.parent = {{"run", relative_to(source.parent_folder, run_folder)},
                       {"run_id", info.run_id},
                       {"checkpoint", source.checkpoint.folder.filename().string()},
                       {"step", info.step},
                       {"changed", changed}}};
  if (info.sections.contains("parent")) fork.parent["parent"] = info.sections["parent"];
  fork.load_optimizer_state = !changed.contains("optim.name");
  log::info(join("forking ", source.parent_folder.string(), " at step ", info.step, " (run ", info.run_id, "), ",
                 changes.empty() ? std::string("with the same keys") : "with " + changes));
  if (!fork.load_optimizer_state && is_rank0)
    log::warn(join("optim.name is ", values.at("optim.name"), " and was ", source.values.at("optim.name"),
                   ": the optimizer's moments cannot be taken over and begin at zero, only the weights go on; expect "
                   "the loss to rise for some steps"));
  return fork;
}

}  // namespace slipway
