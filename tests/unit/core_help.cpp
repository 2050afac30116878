// The text of --help, and suggestions for the key names of other trainers.
#include <gtest/gtest.h>

#include "src/core/config.hpp"
#include "src/core/synonyms.hpp"
#include "tests/support/core_files.hpp"

namespace slipway {
namespace {

struct Sample {
  std::string run, path, init, schedule = "cosine";
  double peak_lr = 3e-4;
  std::int64_t steps = 1000, every = 200;
  int slots = 8, pipeline = 1;
  bool tied = true;
  std::vector<std::string> inputs;
  Flag json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("run", self.run, {"folder for a new run", "DIR"});
    visit("data.path", self.path, {"data folder", "DIR", Shown::kFirst});
    visit("train.init", self.init, {"start from these weights", "MODEL"});
    visit("train.steps", self.steps, {"optimizer steps", "STEPS", Shown::kFirst});
    visit("train.batch", self.slots, "sequences per step");
    visit("checkpoint.every", self.every, {"steps between checkpoints", "STEPS"});
    visit("validate.every", self.every, {"steps between validations", "STEPS"});
    visit("optim.peak_lr", self.peak_lr, {"peak learning rate", "LR"});
    visit("optim.schedule", self.schedule,
          {"a meaning of so many words that it does not fit on one line of a terminal of usual width and is therefore "
           "broken",
           "cosine|wsd"});
    visit("model.tied", self.tied, "share weights");
    visit("mesh.pipeline", self.pipeline, {"only 1 is supported", "", Shown::kNever});
    visit("progress", self.json, {"redraw one line", "", Shown::kAll});
    visit("input", self.inputs, {"files and folders", "PATH"});
    visit("json", self.json, "print one JSON object");
  }
};

struct Bench {
  Sample sample;
  Fields fields;
  Bench() {
    fields.add(sample);
    fields.alias("data", "data.path");
  }
  std::string refusal(const std::string& option) {
    try {
      fields.read_flags({option, "1"});
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(HelpTest, TheShortOneHasWhatPeopleNeedFirst) {
  Bench bench;
  const std::string help = bench.fields.to_help(/*all=*/false);
  for (const char* line : {"\n  --run DIR  ", "\n  --data, --data.path DIR  ", "\n  --input PATH...  ", "\n  --json  ",
                           "\nKeys:\n  --train.steps STEPS  ", "  optimizer steps (default: 1000)\n",
                           "\n  --config FILE...  ", "all: the other 8 keys too"})
    EXPECT_TRUE(has(help, line)) << line << " is not in\n" << help;
  for (const char* key : {"train.init", "optim.", "mesh.", "--progress"}) EXPECT_FALSE(has(help, key)) << help;
}

TEST(HelpTest, TheCompleteOneHasEveryKeyInItsSection) {
  Bench bench;
  const std::string help = bench.fields.to_help(/*all=*/true);
  EXPECT_TRUE(help.starts_with("Options:\n  --run DIR")) << help;
  for (const Field& field : bench.fields.all())
    EXPECT_EQ(has(help, "--" + field.key), field.key != "mesh.pipeline") << field.key;
  for (const char* line : {"\nData:\n  --data, --data.path DIR", "\nTrain:\n  --train.init MODEL", "\nOptim:\n",
                           "--optim.peak_lr LR", "--optim.schedule cosine|wsd", "--model.tied on|off",
                           "(default: 3e-04)", "--train.batch N", "\n  --progress  "})
    EXPECT_TRUE(has(help, line)) << line << " is not in\n" << help;
}

TEST(HelpTest, LongMeaningsAreBrokenAtBlanks) {
  Bench bench;
  std::istringstream lines(bench.fields.to_help(/*all=*/true));
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 110u) << line;
}

TEST(SynonymTest, NamesOfOtherTrainersLeadToTheKey) {
  Bench bench;
  const std::pair<const char*, const char*> kMeant[] = {
      {"--lr", "did you mean --optim.peak_lr?"},
      {"--learning_rate", "did you mean --optim.peak_lr?"},
      {"--learning-rate", "did you mean --optim.peak_lr?"},
      {"--optimizer.lr", "did you mean --optim.peak_lr?"},
      {"--max_steps", "did you mean --train.steps?"},
      {"--max_iters", "did you mean --train.steps?"},
      {"--train-iters", "did you mean --train.steps?"},
      {"--TRAIN.Max_Steps", "did you mean --train.steps?"},
      {"--batch_size", "did you mean --train.batch (sequences a step over all ranks"},
      {"--global-batch-size", "did you mean --train.batch"},
      {"--lr_scheduler_type", "did you mean --optim.schedule (cosine or wsd)?"},
      {"--save_steps", "did you mean --checkpoint.every (in steps)?"},
      {"--checkpoint.interval", "did you mean --checkpoint.every"},
      {"--eval_interval", "did you mean --validate.every"},
      {"--dataset", "did you mean --data.path"},
      {"--vocab_size", "the vocabulary is the tokenizer's"},
      {"--pp_size", "there is no pipeline parallelism"},
      {"--wandb_project", "TensorBoard events in RUN/tb"},
      {"--steps", "did you mean --train.steps?"},
      {"--stesp", "did you mean --train.steps?"},
      {"--confi", "did you mean --config?"},
      {"--hlep", "did you mean --help?"},
      {"--train.peak_lr", "did you mean --optim.peak_lr?"},
      {"--every", "did you mean --checkpoint.every or --validate.every?"},
      {"--zzzzzzzz", "; --help lists them"},
  };
  for (const auto& [option, says] : kMeant) {
    const std::string refusal = bench.refusal(option);
    EXPECT_TRUE(refusal.starts_with(join(option, " is not a key of this command"))) << refusal;
    EXPECT_TRUE(has(refusal, says)) << refusal;
  }
}

TEST(SynonymTest, EachNameStandsInOneLineAndEachLineLeadsSomewhere) {
  for (const Synonym& line : synonyms()) {
    for (const std::string& theirs : words_of(line.names)) EXPECT_EQ(synonym_of(theirs), &line) << theirs;
    EXPECT_TRUE(*line.keys != '\0' || *line.elsewhere != '\0') << line.names;
  }
  EXPECT_EQ(synonym_of("nothing_like_it"), nullptr);
  EXPECT_EQ(synonym_of(""), nullptr);
}

}  // namespace
}  // namespace slipway
