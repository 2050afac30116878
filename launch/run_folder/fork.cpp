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
  const ResumePolicy change = fields.at(key).change;
  return change == ResumePolicy::kImmutable || change == ResumePolicy::kRunLength;
}

}  // namespace

ForkSource open_fork(const std::string& path, const std::string& which, Group& all) {
  std::string folder;
  run_collectively(all, [&] {
    if (all.rank() == 0) folder = find_checkpoint(path, which).folder.string();
  });
  folder = all.all_gather_text(folder).front();
  verify_together(folder, all);
  ForkSource source{.checkpoint = {0, folder}, .info = read_manifest(folder).info};
  source.checkpoint.step = source.info.step;
  source.run = fs::absolute(folder).lexically_normal().parent_path().parent_path();

  RunConfig config;
  Fields fields;
  config.add_to(fields);
  const auto known = [&](const Values& values) {
    Values result;
    for (auto [key, value] : values) {
      if (!fields.has(key) || key.starts_with("fault.") || key == "train.init" || key == "train.fork") continue;
      if (fields.at(key).change == ResumePolicy::kPath && !value.empty() && fs::path(value).is_relative())
        value = (source.run / value).lexically_normal().string();
      result[key] = value;
    }
    return result;
  };
  with_manifest_errors(folder, [&] {
    source.values = known(values_of(source.info.config));
    if (source.values["numerics.compute"] == "auto")  // as earlier versions kept it
      source.values["numerics.compute"] = source.info.build.value("compute", "auto");
    const Json asked = source.info.sections.value("asked", source.info.config);  // earlier versions kept no record
    source.asked = known(values_of(asked));
  });
  return source;
}

RunProgress fork_progress(const ForkSource& source, const RunConfig& config, const Corpus& corpus) {
  RunProgress done = progress_of(source.info);
  Loader loader(corpus, Split::kTrain, config.data, config.train.sequence, config.train.seed);
  loader.restore_near(source.info.data.value("loader", Json::object()));
  done.sequences = static_cast<std::int64_t>(loader.cursor());
  return done;
}

void check_fork(const ForkSource& source, const RunConfig& config, const Corpus& corpus, bool data_given) {
  const std::string folder = source.checkpoint.folder.string();
  const ModelSpec here = config.model.spec(corpus.tokenizer().vocabulary());
  const std::string found = difference(here, spec_from_json(source.info.architecture, folder));
  if (!found.empty())
    throw Error(Fault::kConfig, join("--fork ", folder, " is of another shape: ", found,
                                     "; a fork may change any key but the model's shape. Leave that out, or begin a "
                                     "new run with --run alone"));
  if (!data_given && source.info.data.value("corpus_sha256", "") != corpus.corpus_sha256())
    throw Error(Fault::kData, join("the data in ", config.data.path, " is not what the parent ", source.run.string(),
                                   " was trained on (its corpus_sha256 differs): put that back, or name the data to go "
                                   "on with by --data DIR"));
  const Tokenizer parents = Tokenizer::from_json(source.info.tokenizer, join("the tokenizer in ", folder));
  if (parents.parts().tokens != corpus.tokenizer().parts().tokens)
    throw Error(Fault::kConfig, join("--fork ", folder, " knows other tokens than the data folder ", config.data.path,
                                     ": prepare the text again with the parent's tokenizer"));
  if (config.train.steps <= source.info.step)
    throw Error(Fault::kConfig,
                join("the checkpoint ", folder, " is of step ", source.info.step, " and train.steps is ",
                     config.train.steps, ": nothing is left to train; give --train.steps above ", source.info.step,
                     ", or choose an earlier one with --checkpoint"));
}

Fork inherit_from_parent(const ForkSource& source, const Values& values, const fs::path& run, bool is_rank0) {
  const CheckpointInfo& info = source.info;
  RunConfig config;
  Fields fields;
  config.add_to(fields);
  Json changed = Json::object();
  std::string news;
  for (const auto& [key, value] : values) {
    const auto was = source.values.find(key);
    if (was == source.values.end() || was->second == value || !is_recorded(fields, key)) continue;
    changed[key] = {was->second, value};
    news += join(news.empty() ? "" : ", ", key, " ", was->second, " -> ", value);
  }
  Fork fork{.parent = {{"run", relative_to(source.run, run)},
                       {"run_id", info.run_id},
                       {"checkpoint", source.checkpoint.folder.filename().string()},
                       {"step", info.step},
                       {"changed", changed}}};
  if (info.sections.contains("parent")) fork.parent["parent"] = info.sections["parent"];
  fork.moments = !changed.contains("optim.name");
  log::info(join("forking ", source.run.string(), " at step ", info.step, " (run ", info.run_id, "), ",
                 news.empty() ? std::string("with the same keys") : "with " + news));
  if (!fork.moments && is_rank0)
    log::warn(join("optim.name is ", values.at("optim.name"), " and was ", source.values.at("optim.name"),
                   ": the optimizer's moments cannot be taken over and begin at zero, only the weights go on; expect "
                   "the loss to rise for some steps"));
  return fork;
}

}  // namespace slipway
