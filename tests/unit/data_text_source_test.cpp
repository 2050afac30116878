#include <zstd.h>

#include <numeric>

#include "src/data/lanes.hpp"
#include "tests/support/gzip.hpp"
#include "tests/unit/data_support.hpp"

namespace slipway {
namespace {

using namespace data_test;
using test::gzip;

std::string zstd(const std::string& text) {
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  return packed;
}

std::string concatenate(const std::vector<Document>& documents) {
  std::string text;
  for (const Document& document : documents) text += document.text;
  return text;
}

TEST(TextSource, CutsPlainTextAtTheLastLineEndWithinTheLimit) {
  const TempFolder folder;
  const auto documents = read_all({{folder.write_file("a.txt", "one\ntwo\nthree\nfour")}}, {.document_bytes = 9});
  ASSERT_EQ(documents.size(), 3u);
  EXPECT_EQ(documents[0].text, "one\ntwo\n");
  EXPECT_EQ(documents[1].text, "three\n");
  EXPECT_EQ(documents[2].text, "four");
  EXPECT_EQ(documents[0].line, 1);
  EXPECT_EQ(documents[1].line, 3);
  EXPECT_EQ(documents[2].line, 4);
  EXPECT_EQ(documents[2].origin_path, "a.txt");
  EXPECT_EQ(documents[2].lane, "text");
}

TEST(TextSource, KeepsALineThatIsLongerThanADocumentWhole) {
  const TempFolder folder;
  const std::string line(1000, 'x');
  const auto documents = read_all({{folder.write_file("a.txt", "a\n" + line + "\nb")}}, {.document_bytes = 7});
  ASSERT_EQ(documents.size(), 3u);
  EXPECT_EQ(documents[1].text, line + "\n");
}

TEST(TextSource, BreaksALineBeyondTheLongestAtACharacter) {
  const TempFolder folder;
  std::string line = "a";
  while (line.size() < TextSource::kMaxLine + 100) line += "\xE2\x82\xAC";  // the euro sign, three bytes
  const auto documents = read_all({{folder.write_file("a.txt", line)}});
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0].text.size() % 3, 1u);
  EXPECT_EQ(concatenate(documents), line);
}

TEST(TextSource, LosesNoByteWhateverTheDocumentSize) {
  const TempFolder folder;
  std::string text;
  for (int i = 0; i < 500; ++i)
    text += std::string(static_cast<std::size_t>(i * 7 % 31), 'a' + i % 26) + (i % 3 ? "\n" : "\r\n");
  const std::string path = folder.write_file("a.txt", text);
  for (const std::int64_t bytes : {1, 2, 13, 64, 1000, 1 << 20})
    EXPECT_EQ(concatenate(read_all({{path}}, {.document_bytes = bytes})), text) << bytes;
}

TEST(TextSource, ReadsPackedFilesAsThePlainOne) {
  const TempFolder plain, packed;
  std::string text;
  for (int i = 0; i < 90'000; ++i) text += join("line ", i, "\n");  // longer than the blocks that are read at once
  const std::string rows = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
  plain.write_file("sub/a.txt", text);
  plain.write_file("b.jsonl", rows);
  packed.write_file("sub/a.txt.gz", gzip(text.substr(0, 999)) + gzip(text.substr(999)));  // two members
  packed.write_file("b.jsonl.zst", zstd(rows.substr(0, 20)) + zstd(rows.substr(20)));     // two frames
  const auto expected = read_all({{plain / ""}}), actual = read_all({{packed / ""}});
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_EQ(actual[i].text, expected[i].text);
    EXPECT_EQ(actual[i].origin_path, expected[i].origin_path);
    EXPECT_EQ(actual[i].line, expected[i].line);
  }
}

TEST(TextSource, OrdersFilesByTheBytesOfTheirNames) {
  const TempFolder folder;
  for (const char* name : {"b.txt", "B.txt", "a/z.txt", "a.txt", "\xC3\xA4.txt"}) folder.write_file(name, name);
  std::vector<std::string> names;
  for (const InputFile& file : list_inputs({{folder / ""}}).files) names.push_back(file.name);
  EXPECT_EQ(names, (std::vector<std::string>{"B.txt", "a.txt", "a/z.txt", "b.txt", "\xC3\xA4.txt"}));

  const std::string first = (folder / "b.txt").string(), second = (folder / "B.txt").string();
  EXPECT_EQ(list_inputs({{first, second}}).files[0].name, "B.txt")
      << "the order in which a shell lists files must not matter";
}

TEST(TextSource, TakesFromFoldersOnlyWhatTheGlobMatches) {
  const TempFolder folder;
  for (const char* name : {"a.py", "sub/b.py.gz", "c.txt"}) folder.write_file(name, "x");
  const auto files = list_inputs({{folder / "", folder / "c.txt"}, "*.py"}).files;
  ASSERT_EQ(files.size(), 3u);
  EXPECT_EQ(files[0].name, "a.py");
  EXPECT_EQ(files[1].name, "c.txt") << "a file that is named outright is read";
  EXPECT_EQ(files[2].name, "sub/b.py");
  expect_error(Fault::kData, {"*.rs", "--glob"}, [&] { list_inputs({{folder / ""}, "*.rs"}); });
}

TEST(TextSource, ReadsTheFieldsOfARow) {
  const TempFolder folder;
  const auto documents = read_all({{folder.write_file("a.jsonl",
                                                      "{\"text\":\"x\\n\\u00e9\",\"lane\":\"code\",\"license\":\"MIT\","
                                                      "\"source\":\"docs\",\"origin_path\":\"r/f.py\",\"more\":[1]}\r\n"
                                                      "{\"text\":\"y\",\"lane\":null}\n"
                                                      "{\"text\":\"z\",\"lane\":\"\",\"license\":\"\"}")}},
                                  {.lane = "chat", .license = "CC0-1.0"});
  ASSERT_EQ(documents.size(), 3u);
  EXPECT_EQ(documents[0].text, "x\n\xC3\xA9");
  EXPECT_EQ(documents[0].lane, "code");
  EXPECT_EQ(documents[0].license, "MIT");
  EXPECT_EQ(documents[0].source, "docs");
  EXPECT_EQ(documents[0].origin_path, "r/f.py");
  EXPECT_EQ(documents[1].lane, "chat");
  EXPECT_EQ(documents[1].license, "CC0-1.0");
  EXPECT_EQ(documents[1].source, "corpus");
  EXPECT_EQ(documents[1].origin_path, "a.jsonl");
  EXPECT_EQ(documents[1].line, 2);
  EXPECT_EQ(documents[2].lane, "chat") << "an empty word names nothing";
  EXPECT_EQ(documents[2].license, "CC0-1.0");
}

struct BadInput {
  std::string file_name, bytes, reason, location, substring;
};

class BadInputTest : public testing::TestWithParam<BadInput> {};

TEST_P(BadInputTest, IsAnErrorWithFileAndLineOrCountedByReason) {
  const BadInput& bad = GetParam();
  const TempFolder folder;
  const std::string path = folder.write_file(bad.file_name, bad.bytes), good = folder.write_file("good.txt", "good");
  TextConfig config{.max_line_bytes = 40};
  expect_error(Fault::kData, {path + bad.location, bad.substring}, [&] { read_all({{path}}, config); });

  config.on_bad = "skip";
  TextSource source({{path, good}}, config);
  std::vector<std::string> texts;
  for (Document document; source.next(document);) texts.push_back(document.text);
  EXPECT_EQ(source.skipped().counts(), (std::map<std::string, std::int64_t>{{bad.reason, 1}}));
  EXPECT_EQ(std::count(texts.begin(), texts.end(), "good"), 1);
  EXPECT_EQ(source.bytes_done(), source.bytes_total());
}

const std::string kLong(41, 'x');
INSTANTIATE_TEST_SUITE_P(
    Each, BadInputTest,
    testing::Values(
        BadInput{"a.txt", "", "empty_file", ": ", "empty"}, BadInput{"a.jsonl", "", "empty_file", ": ", "empty"},
        BadInput{"a.jsonl", "{\"text\":\"x\"}\n\n{\"text\":\"y\"}\n", "blank_line", ":2: ", "blank"},
        BadInput{"a.jsonl", "{\"text\":\"x\"}\n \t\r\n", "blank_line", ":2: ", "blank"},
        BadInput{"a.jsonl", "{\"text\":\"x\"}\n{\"text\":\n", "bad_json", ":2: ", "one object a line"},
        BadInput{"a.jsonl", "[\"text\"]\n", "bad_json", ":1: ", "JSON object"},
        BadInput{"a.jsonl", "{\"text\":\"\\ud800\"}\n", "bad_json", ":1: ", "surrogate"},
        BadInput{"a.jsonl", "{\"text\":\"x\",\"p\":NaN}\n", "bad_json", ":1: column 17", "NaN is not"},
        BadInput{"a.jsonl", "{\"p\":-Infinity,\"text\":\"x\"}\n", "bad_json", ":1: column 6", "-Infinity is not"},
        BadInput{"a.jsonl", "{\"p\":1e999,\"text\":\"x\"}\n", "bad_json", ":1: column 6", "1e999 is too large"},
        BadInput{"a.jsonl", "{\"text\":\"x\"\n", "bad_json", ":1: column 12", "not closed on its line"},
        BadInput{"a.json", "[{\"text\":\"x\"}\n{", "bad_json", ":2: ", "comma"},
        BadInput{"a.json", "[{\"text\":\"x\"},\n", "bad_json", ":2: ", "object is missing"},
        BadInput{"a.json", "[{\"text\":\"x\"}", "bad_json", ":1: ", "not closed"},
        BadInput{"a.json", "[{\"text\":\"x\"},{\"te", "bad_json", ":1: ", "not closed"},
        BadInput{"a.json", "[{\"text\":\"x\"}] y", "bad_json", ":1: ", "follows the end"},
        BadInput{"a.json", "[{\"text\":\"x\"},\n{\"text\":\"" + kLong + "\"},\n{\"text\":\"z\"}]", "long_line",
                 ":2: ", "data.max_line_bytes"},
        BadInput{"a.json", "[\n {\"text\":\"x\"},\n {\"txt\":\"x\"}]", "no_text", ":3: ", "it has txt"},
        BadInput{"a.txt", "\n \r\n\n", "empty_file", ": ", "blanks"},
        BadInput{"a.jsonl", "\xEF\xBB\xBF", "empty_file", ": ", "empty"},
        BadInput{"a.txt", std::string("one\ntwo\0\n", 9), "nul_byte", ":2: ", "NUL"},
        BadInput{"a.txt", std::string("\xFF\xFEh\0i\0", 6), "other_format", ": ", "UTF-16"},
        BadInput{"a.txt", std::string("h\0e\0l\0l\0o\0", 10), "other_format", ": ", "iconv -f UTF-16LE"},
        BadInput{"a", std::string("PAR1\x15\x04", 6), "other_format", ": ", "Parquet"},
        BadInput{"a.txt", "BZh91AY", "other_format", ": ", "bunzip2"},
        BadInput{"a.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "other_format", ": ",
                 "git lfs pull"},
        BadInput{"a.txt.gz", gzip(gzip("twice")), "other_format", ": ", "gzip twice"},
        BadInput{"a.jsonl", "{\"txt\":\"x\"}\n", "no_text", ":1: ", "'text' (it has txt)"},
        BadInput{"a.jsonl", "{}\n", "no_text", ":1: ", "it has none"},
        BadInput{"a.jsonl", "{\"text\":7}\n", "bad_field", ":1: ", "not a string"},
        BadInput{"a.jsonl", "{\"text\":null}\n", "bad_field", ":1: ", "not a string"},
        BadInput{"a.jsonl", "{\"text\":\"x\",\"license\":7}\n", "bad_field", ":1: ", "'license'"},
        BadInput{"a.jsonl", "{\"text\":\"x\",\"license\":\"a\\u001b\"}\n", "bad_field",
                 ":1: ", "'license' holds a control"},
        BadInput{"a.jsonl", "{\"text\":\"\"}\n", "empty_text", ":1: ", "empty"},
        BadInput{"a.jsonl", "{\"text\":\"x\"}\n{\"text\":\"\xFF\"}\n", "invalid_utf8", ":2: ", "UTF-8"},
        BadInput{"a.txt", "fine\nnot \xC3\x28 fine\n", "invalid_utf8", ":2: ", "UTF-8"},
        BadInput{"a.txt", "surrogate \xED\xA0\x80", "invalid_utf8", ":1: ", "UTF-8"},
        BadInput{"a.txt", "cut off \xE2\x82", "invalid_utf8", ":1: ", "UTF-8"},
        BadInput{"a.jsonl", "{\"text\":\"x\"}\n\"" + kLong + "\"\n{\"text\":\"z\"}\n", "long_line",
                 ":2: ", "data.max_line_bytes"},
        BadInput{"a.jsonl", "\"" + kLong, "long_line", ":1: ", "data.max_line_bytes"},
        BadInput{"a.jsonl", "{\"text\":\"x\",\"lane\":\"nowhere\"}\n", "unknown_lane", ":1: ", "nowhere"},
        BadInput{"a.txt.gz", "this is not gzip", "unreadable", ": ", "gzip"},
        BadInput{"a.txt.gz", gzip("some words") + "more", "unreadable", ": ", "gzip"},
        BadInput{"a.txt.gz", gzip("some words").substr(0, 20), "unreadable", ": ", "too early"},
        BadInput{"a.txt.gz", "", "empty_file", ": ", "empty"}, BadInput{"a.jsonl.zst", "", "empty_file", ": ", "empty"},
        BadInput{"a.jsonl", "{\"text\":\"x\"}\r{\"text\":\"y\"}\r", "bad_json", ":1: ", "tr '\\r' '\\n'"},
        BadInput{"a.jsonl", "{\"text\":\"x\"}\r{\"text\":\"y\"}\r{\"text\":\"" + kLong + "\"}\r", "bad_json",
                 ":1: ", "the lines end in CR"},
        BadInput{"a.txt.zst", "this is not zstd", "unreadable", ": ", "zstd"},
        BadInput{"a.txt.zst", zstd("some words").substr(0, 15), "unreadable", ": ", "too early"}),
    [](const auto& each) { return join(each.index, "_", each.param.reason); });

TEST(TextSource, AcceptsALineOfExactlyTheLimit) {
  const TempFolder folder;
  const std::string row = "{\"text\":\"0123456789\"}";
  const TextConfig config{.max_line_bytes = static_cast<std::int64_t>(row.size())};
  EXPECT_EQ(read_all({{folder.write_file("a.jsonl", row + "\r\n" + row + "\n" + row)}}, config).size(), 3u);
}

TEST(TextSource, SaysWhatIsMissingUnreadableOrOfAnotherKind) {
  const TempFolder folder;
  expect_error(Fault::kConfig, {"--input"}, [] { list_inputs({}); });
  expect_error(Fault::kConfig, {"--input is empty"}, [] { list_inputs({{""}}); });
  expect_error(Fault::kData, {"nowhere.txt", "No such file"}, [&] { list_inputs({{folder / "nowhere.txt"}}); });
  expect_error(Fault::kData, {"t.parquet", "to_json", "t.jsonl"},
               [&] { list_inputs({{folder.write_file("t.parquet", "PAR1")}}); });
  expect_error(Fault::kData, {"no file to read"}, [] {
    const TempFolder empty;
    list_inputs({{empty / ""}});
  });
  expect_error(Fault::kConfig, {"elsewhere", "text, code"},
               [&] { read_all({{folder.write_file("a.txt", "x")}}, {.lane = "elsewhere"}); });
  expect_error(Fault::kConfig, {"data.on_bad", "ignore"},
               [&] { read_all({{folder.write_file("a.txt", "x")}}, {.on_bad = "ignore"}); });
  if (::geteuid() != 0) {
    const std::string path = folder.write_file("locked.txt", "x");
    fs::permissions(path, fs::perms::none);
    expect_error(Fault::kData, {"locked.txt", "Permission denied"}, [&] { read_all({{path}}); });
  }
}

TEST(LaneRegistry, HoldsTheLanesOfTheConfigAndTakesOthersFromAFile) {
  const LaneRegistry built_in = LaneRegistry::built_in();
  for (const char* lane : {"text", "code", "docs", "chat", "tool", "trajectory"})
    EXPECT_TRUE(built_in.has(lane)) << lane;
  const TempFolder folder;
  const std::string registry_file = folder.write_file(
      "own.json",
      R"({"schema":"slipway.lanes","schema_version":1,"lanes":[{"name":"poems","response_mode":"prose_only","meaning":"verse"}]})");
  EXPECT_EQ(read_all({{folder.write_file("a.jsonl", "{\"text\":\"x\",\"lane\":\"poems\"}")}},
                     {.lane = "poems", .lanes = registry_file})
                .size(),
            1u);
  expect_error(Fault::kData, {"bad.json", "Upper"}, [&] {
    LaneRegistry::load(folder.write_file(
        "bad.json",
        R"({"schema":"slipway.lanes","schema_version":1,"lanes":[{"name":"Upper","response_mode":"mixed","meaning":""}]})"));
  });
  expect_error(Fault::kData, {"bad.json", "slipway.lanes"},
               [&] { LaneRegistry::load(folder.write_file("bad.json", R"({"schema":"other","schema_version":1})")); });
}

TEST(FindInvalidUtf8, GivesTheFirstBadByte) {
  EXPECT_EQ(find_invalid_utf8(""), std::string_view::npos);
  EXPECT_EQ(find_invalid_utf8("plain words and \xC3\xA9, \xE2\x82\xAC, \xF0\x9F\x98\x80 and NUL"),
            std::string_view::npos);
  EXPECT_EQ(find_invalid_utf8(std::string_view("a\0b", 3)), std::string_view::npos);
  EXPECT_EQ(find_invalid_utf8("0123456789\xC0\x80"), 10u) << "overlong";
  EXPECT_EQ(find_invalid_utf8("\xF4\x90\x80\x80"), 0u) << "above U+10FFFF";
  EXPECT_EQ(find_invalid_utf8("01234567\xE2\x82"), 8u) << "cut off";
}

}  // namespace
}  // namespace slipway
