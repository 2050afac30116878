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
    visit("data.path", self.path, {"data folder", "DIR", HelpVisibility::kFirst});
    visit("train.init", self.init, {"start from these weights", "MODEL"});
    visit("train.steps", self.steps, {"optimizer steps", "STEPS", HelpVisibility::kFirst});
    visit("train.batch", self.slots, "sequences per step");
    visit("checkpoint.every", self.every, {"steps between checkpoints", "STEPS"});
    visit("validate.every", self.every, {"steps between validations", "STEPS"});
    visit("optim.peak_lr", self.peak_lr, {"peak learning rate", "LR"});
    visit("optim.schedule", self.schedule,
          {"a meaning of so many words that it does not fit on one line of a terminal of usual width and is therefore "
           "broken",
           "cosine|wsd"});
    visit("model.tied", self.tied, "share weights");
    visit("mesh.pipeline", self.pipeline, {"only 1 is supported", "", HelpVisibility::kNever});
    visit("progress", self.json, {"redraw one line", "", HelpVisibility::kAll});
    visit("input", self.inputs, {"files and folders", "PATH"});
    visit("json", self.json, "print one JSON object");
  }
};

struct HelpFixture {
  Sample sample;
  Fields fields;
  HelpFixture() {
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

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(HelpTest, TheShortOneHasWhatPeopleNeedFirst) {
  HelpFixture fixture;
  const std::string help = fixture.fields.to_help(/*all=*/false);
  for (const char* line : {"\n  --run DIR  ", "\n  --data, --data.path DIR  ", "\n  --input PATH...  ", "\n  --json  ",
                           "\nKeys:\n  --train.steps STEPS  ", "  optimizer steps (default: 1000)\n",
                           "\n  --config FILE...  ", "all: the other 8 keys too"})
    EXPECT_TRUE(contains(help, line)) << line << " is not in\n" << help;
  for (const char* key : {"train.init", "optim.", "mesh.", "--progress"}) EXPECT_FALSE(contains(help, key)) << help;
}

TEST(HelpTest, TheCompleteOneHasEveryKeyInItsSection) {
  HelpFixture fixture;
  const std::string help = fixture.fields.to_help(/*all=*/true);
  EXPECT_TRUE(help.starts_with("Options:\n  --run DIR")) << help;
  for (const Field& field : fixture.fields.all())
    EXPECT_EQ(contains(help, "--" + field.key), field.key != "mesh.pipeline") << field.key;
  for (const char* line : {"\nData:\n  --data, --data.path DIR", "\nTrain:\n  --train.init MODEL", "\nOptim:\n",
                           "--optim.peak_lr LR", "--optim.schedule cosine|wsd", "--model.tied on|off",
                           "(default: 3e-04)", "--train.batch N", "\n  --progress  "})
    EXPECT_TRUE(contains(help, line)) << line << " is not in\n" << help;
}

TEST(HelpTest, LongMeaningsAreBrokenAtBlanks) {
  HelpFixture fixture;
  std::istringstream lines(fixture.fields.to_help(/*all=*/true));
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 110u) << line;
}

TEST(SynonymTest, NamesOfOtherTrainersLeadToTheKey) {
  HelpFixture fixture;
  const std::pair<const char*, const char*> kExpectedHints[] = {
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
  for (const auto& [option, says] : kExpectedHints) {
    const std::string refusal = fixture.refusal(option);
    EXPECT_TRUE(refusal.starts_with(join(option, " is not a key of this command"))) << refusal;
    EXPECT_TRUE(contains(refusal, says)) << refusal;
  }
}

TEST(SynonymTest, EachNameStandsInOneLineAndEachLineLeadsSomewhere) {
  for (const Synonym& synonym : synonyms()) {
    for (const std::string& synonym_name : split_words(synonym.names))
      EXPECT_EQ(find_synonym(synonym_name), &synonym) << synonym_name;
    EXPECT_TRUE(*synonym.keys != '\0' || *synonym.fallback_message != '\0') << synonym.names;
  }
  EXPECT_EQ(find_synonym("nothing_like_it"), nullptr);
  EXPECT_EQ(find_synonym(""), nullptr);
}

}  // namespace
}  // namespace slipway
