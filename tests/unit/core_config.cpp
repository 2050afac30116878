// Configuration: defaults, then files in order, then flags; nothing is guessed and nothing is lost.
#include "src/core/config.hpp"

#include <gtest/gtest.h>

#include "src/core/file.hpp"
#include "tests/support/core_files.hpp"

namespace slipway {
namespace {

struct Sample {
  double peak_lr = 3e-4;
  std::int64_t steps = 1000;
  std::uint64_t seed = 1;
  int threads = 0;
  bool tied = true;
  std::string path;
  std::string prompt;
  std::vector<std::string> inputs;
  Flag json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("optim.peak_lr", self.peak_lr, "learning rate at the end of warmup");
    visit("train.steps", self.steps, "optimizer steps", ResumePolicy::kRunLength);
    visit("train.seed", self.seed, "seed of everything");
    visit("runtime.threads", self.threads, "threads of a rank", ResumePolicy::kLayout);
    visit("model.tied", self.tied, "head and embedding are one");
    visit("data.path", self.path, {"folder of token shards", "DIR"});
    visit("prompt", self.prompt, "text to go on from");
    visit("input", self.inputs, {"files and folders", "PATH"});
    visit("json", self.json, "one JSON object on standard output");
  }
};

/// A config with its keys, and short ways to feed them.
struct ConfigFixture {
  Sample sample;
  Fields fields;
  ScratchFolder folder;

  ConfigFixture() { fields.add(sample); }
  void parse_flags(const std::vector<std::string>& argv) { fields.read_flags(argv); }
  void parse_ini(const std::string& text) {
    atomic_write_file(folder / "run.ini", text);
    fields.read_file(folder / "run.ini");
  }
};

TEST(ConfigTest, DefaultsStandUntilAFlagOrFileSpeaks) {
  ConfigFixture fixture;
  fixture.parse_flags({});
  EXPECT_EQ(fixture.sample.steps, 1000);
  EXPECT_FALSE(fixture.fields.is_set("train.steps"));
  fixture.parse_flags({"--train.steps", "20"});
  EXPECT_EQ(fixture.sample.steps, 20);
  EXPECT_TRUE(fixture.fields.is_set("train.steps"));
  EXPECT_EQ(fixture.fields.at("train.steps").default_value, "1000");
  EXPECT_EQ(fixture.fields.at("train.steps").resume_policy, ResumePolicy::kRunLength);
}

TEST(ConfigTest, EveryKindOfValueIsReadFromBothFormsOfAFlag) {
  ConfigFixture fixture;
  fixture.parse_flags({"--optim.peak_lr=1e-3", "--train.seed", "18446744073709551615", "--runtime.threads=2",
                       "--model.tied", "off", "--data.path", "a b/c", "--json"});
  EXPECT_EQ(fixture.sample.peak_lr, 1e-3);
  EXPECT_EQ(fixture.sample.seed, 18446744073709551615u);
  EXPECT_EQ(fixture.sample.threads, 2);
  EXPECT_FALSE(fixture.sample.tied);
  EXPECT_EQ(fixture.sample.path, "a b/c");
  EXPECT_TRUE(fixture.sample.json.on);
}

TEST(ConfigTest, ValuesMayStartWithADashOrBeEmpty) {
  ConfigFixture fixture;
  fixture.parse_flags({"--runtime.threads", "-1", "--optim.peak_lr", "-2.5e-1", "--prompt", "- a list"});
  EXPECT_EQ(fixture.sample.threads, -1);
  EXPECT_EQ(fixture.sample.peak_lr, -0.25);
  EXPECT_EQ(fixture.sample.prompt, "- a list");
  fixture.parse_flags({"--prompt=--help"});
  EXPECT_EQ(fixture.sample.prompt, "--help");
  fixture.parse_flags({"--prompt", ""});
  EXPECT_EQ(fixture.sample.prompt, "");
  fixture.parse_flags({"--prompt", "before", "--prompt="});
  EXPECT_EQ(fixture.sample.prompt, "");
  fixture.parse_flags({"--prompt", "a\nb = \"c\" \\ # d"});
  EXPECT_EQ(fixture.sample.prompt, "a\nb = \"c\" \\ # d");
}

TEST(ConfigTest, AListTakesSeveralWordsAndSeveralFlags) {
  ConfigFixture fixture;
  fixture.parse_flags({"--input", "a", "b", "--json", "--input", "c"});
  EXPECT_EQ(fixture.sample.inputs, (std::vector<std::string>{"a", "b", "c"}));
}

TEST(ConfigTest, TheLastOneWins) {
  ConfigFixture fixture;
  fixture.parse_flags({"--train.steps", "1", "--train.steps", "2"});
  EXPECT_EQ(fixture.sample.steps, 2);
  fixture.parse_ini("[train]\nsteps = 3\nsteps = 4\n");
  EXPECT_EQ(fixture.sample.steps, 4);
  fixture.parse_flags({"--train.steps", "5"});
  EXPECT_EQ(fixture.sample.steps, 5);
}

TEST(ConfigTest, FilesHaveSectionsCommentsAndWindowsLineEnds) {
  ConfigFixture fixture;
  fixture.parse_ini("# a comment\n\n[train]\r\n  # another\n steps=7\r\nseed =  9\n[data]\npath = a b/c\n");
  EXPECT_EQ(fixture.sample.steps, 7);
  EXPECT_EQ(fixture.sample.seed, 9u);
  EXPECT_EQ(fixture.sample.path, "a b/c");
}

TEST(ConfigTest, AHashInAValueSurvivesTheFile) {
  ConfigFixture fixture;
  fixture.parse_ini("[data]\npath = runs/#1 # not a comment\n");
  EXPECT_EQ(fixture.sample.path, "runs/#1 # not a comment");
}

TEST(ConfigTest, UnknownKeysAreRefusedWithTheNearestKnownOne) {
  ConfigFixture fixture;
  expect_error(Fault::kConfig, "--train.stpes is not a key of this command; did you mean --train.steps?", [&] {
    fixture.parse_flags({"--train.stpes", "5"});
  });
  expect_error(Fault::kConfig, "did you mean --train.steps?", [&] { fixture.parse_flags({"--train.stpes=5"}); });
  expect_error(Fault::kConfig, "run.ini:2: optim.peek_lr is not a key of this command; did you mean optim.peak_lr?",
               [&] { fixture.parse_ini("[optim]\npeek_lr = 1\n"); });
  expect_error(Fault::kConfig, "--zzzzzzzz is not a key of this command; --help lists them", [&] {
    fixture.parse_flags({"--zzzzzzzz", "5"});
  });
}

TEST(ConfigTest, NoPrefixIsCompleted) {
  ConfigFixture fixture;
  expect_error(Fault::kConfig, "--train.step is not a key", [&] { fixture.parse_flags({"--train.step", "5"}); });
  expect_error(Fault::kConfig, "--js is not a key", [&] { fixture.parse_flags({"--js"}); });
  EXPECT_EQ(fixture.sample.steps, 1000);
}

TEST(ConfigTest, ValuesThatDoNotParseAreRefusedNamingKeyAndValue) {
  ConfigFixture fixture;
  const std::pair<std::vector<std::string>, std::string> kBad[] = {
      {{"--train.steps", "ten"}, "train.steps is 'ten', but a whole number"},
      {{"--train.steps", "1.5"}, "train.steps is '1.5'"},
      {{"--train.steps", ""}, "train.steps is ''"},
      {{"--train.steps", " 5"}, "train.steps is ' 5'"},
      {{"--train.steps", "9223372036854775808"}, "train.steps is '9223372036854775808'"},
      {{"--train.seed", "-1"}, "train.seed is '-1'"},
      {{"--optim.peak_lr", "nan"}, "a finite number"},
      {{"--optim.peak_lr", "1e999"}, "optim.peak_lr is '1e999'"},
      {{"--optim.peak_lr", "0,1"}, "optim.peak_lr is '0,1'"},
      {{"--model.tied", "maybe"}, "on or off"},
  };
  for (const auto& bad : kBad) expect_error(Fault::kConfig, bad.second, [&] { fixture.parse_flags(bad.first); });
  EXPECT_EQ(fixture.fields.to_ini(), ConfigFixture().fields.to_ini());  // a refused value changes nothing
}

TEST(ConfigTest, AMissingValueAndAStrayWordAreRefused) {
  ConfigFixture fixture;
  expect_error(Fault::kConfig, "train.steps", [&] { fixture.parse_flags({"--train.steps"}); });
  expect_error(Fault::kConfig, "train.steps", [&] { fixture.parse_flags({"--train.steps", "--json"}); });
  expect_error(Fault::kConfig, "'stray' stands alone", [&] { fixture.parse_flags({"--json", "stray"}); });
  expect_error(Fault::kConfig, "two dashes", [&] { fixture.parse_flags({"-x"}); });
  expect_error(Fault::kConfig, "json", [&] { fixture.parse_flags({"--json=yes"}); });
}

TEST(ConfigTest, ABrokenFileIsRefusedNamingIt) {
  ConfigFixture fixture;
  expect_error(Fault::kConfig, "run.ini:2: 'steps' is no [section] line and no key = value line",
               [&] { fixture.parse_ini("[train]\nsteps\n"); });
  expect_error(Fault::kConfig, "run.ini:1: '{' is no", [&] { fixture.parse_ini("{\n"); });
  expect_error(Fault::kConfig, "run.ini:1: '= 3' is no", [&] { fixture.parse_ini("= 3\n"); });
  expect_error(Fault::kConfig, "run.ini:3: train.steps is 'many'",
               [&] { fixture.parse_ini("[train]\n\nsteps = many\n"); });
  expect_error(Fault::kConfig, "run.ini:2: train.steps is 'many'",
               [&] { fixture.parse_ini("[train]\nsteps = many\n"); });
  expect_error(Fault::kConfig, "No such file", [&] { fixture.fields.read_file(fixture.folder / "none.ini"); });
}

TEST(ConfigTest, TheIniTextStartsTheSameRunAgain) {
  ConfigFixture fixture;
  fixture.parse_flags({"--optim.peak_lr", "0.1", "--train.seed", "18446744073709551615", "--data.path", "a #1/ü = b",
                       "--model.tied=off", "--prompt", "not a section", "--json"});
  const std::string text = fixture.fields.to_ini();
  EXPECT_EQ(text,
            "[optim]\npeak_lr = 0.1\n\n[train]\nsteps = 1000\nseed = 18446744073709551615\n\n[runtime]\nthreads = 0\n\n"
            "[model]\ntied = off\n\n[data]\npath = a #1/ü = b\n");
  ConfigFixture reparsed;
  reparsed.parse_ini(text);
  EXPECT_EQ(reparsed.fields.to_ini(), text);
  EXPECT_EQ(reparsed.sample.path, fixture.sample.path);
}

TEST(ConfigTest, WhatWasGivenIsKnownApartFromEveryValueAndCanBeTakenBack) {
  ConfigFixture fixture;
  fixture.parse_ini("[optim]\npeak_lr = 0.1\n");
  fixture.parse_flags({"--train.steps", "5", "--prompt", "no key of a file"});
  EXPECT_EQ(fixture.fields.explicit_values(), (Values{{"optim.peak_lr", "0.1"}, {"train.steps", "5"}}));
  EXPECT_EQ(fixture.fields.values().size(), 6U);
  EXPECT_EQ(fixture.fields.to_ini(fixture.fields.explicit_values()), "[optim]\npeak_lr = 0.1\n\n[train]\nsteps = 5\n");
  fixture.fields.read_values({{"train.seed", "7"}, {"train.steps", "6"}}, "a source");
  EXPECT_EQ(fixture.sample.steps, 6);
  EXPECT_GT(fixture.fields.at("train.steps").source_index, fixture.fields.at("optim.peak_lr").source_index);
  expect_error(Fault::kConfig, "a source: train.seeds is not a key", [&] {
    fixture.fields.read_values({{"train.seeds", "7"}}, "a source");
  });
  fixture.fields.unset("train.steps");
  EXPECT_EQ(fixture.sample.steps, 1000);
  EXPECT_FALSE(fixture.fields.is_set("train.steps"));
  fixture.fields.unset_all();
  EXPECT_EQ(fixture.sample.peak_lr, 3e-4);
  EXPECT_EQ(fixture.sample.prompt, "");
  EXPECT_TRUE(fixture.fields.explicit_values().empty());
}

TEST(ConfigTest, AValueThatAFileCannotCarryIsRefusedAtOnce) {
  ConfigFixture fixture;  // a line end in config.ini would begin another key; a blank at the edge would be cut
  expect_error(Fault::kConfig, "data.path", [&] { fixture.parse_flags({"--data.path", "a\n[train]\nsteps = 1"}); });
  expect_error(Fault::kConfig, "data.path", [&] { fixture.parse_flags({"--data.path", " a"}); });
}

TEST(ConfigTest, ACommentBehindAValueIsExplained) {
  ConfigFixture fixture;
  for (const char* text : {"[train]\nsteps = 100 # a short run\n", "[train]\nsteps = 100\t; a short run\n",
                           "[train]\nsteps = # a short run\n", "[model]\ntied = off # untied\n"})
    expect_error(Fault::kConfig, "a comment stands on a line of its own", [&] { fixture.parse_ini(text); });
  fixture.parse_ini(
      "; a comment\n[train]  # how long\n# another\nsteps = 7\n");  // behind a section it is no part of a value
  EXPECT_EQ(fixture.sample.steps, 7);
}

TEST(ConfigTest, APathIsGivenOnceOnACommandLine) {
  ConfigFixture fixture;
  fixture.fields.alias("data", "data.path");
  expect_error(Fault::kConfig, "--data is given twice, as 'a' and as 'b'", [&] {
    fixture.parse_flags({"--data", "a", "--data", "b"});
  });
  expect_error(Fault::kConfig, "is given twice, as 'c' and as 'd'", [&] {
    fixture.parse_flags({"--data", "c", "--data.path=d"});
  });
  expect_error(Fault::kConfig, "is given twice", [&] { fixture.parse_flags({"--data", "a", "--data", "a"}); });
  fixture.parse_ini("[data]\npath = of the file\n");
  fixture.parse_flags({"--data", "e"});  // a flag overrides a file
  EXPECT_EQ(fixture.sample.path, "e");
  fixture.parse_flags({"--data", "f"});
  EXPECT_EQ(fixture.sample.path, "f");
  fixture.parse_flags({"--input", "a", "--input", "b"});  // a list takes several
  EXPECT_EQ(fixture.sample.inputs.size(), 2u);
}

TEST(NearestTest, FindsTheWordOneWouldHaveMeant) {
  const std::vector<std::string> known = {"train.steps", "train.seed", "optim.peak_lr"};
  EXPECT_EQ(nearest("train.step", known), "train.steps");
  EXPECT_EQ(nearest("train.sede", known), "train.seed");
  EXPECT_EQ(nearest("steps", known), "");
  EXPECT_EQ(nearest("", known), "");
  EXPECT_EQ(nearest("x", {}), "");
}

}  // namespace
}  // namespace slipway
