// Detection of input formats, and non-text entries of folders.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "src/core/partial_folder.hpp"
#include "src/data/text_format.hpp"
#include "tests/support/gzip.hpp"
#include "tests/unit/data_support.hpp"

namespace slipway {
namespace {

using namespace data_test;
using test::gzip;
using Counts = std::map<std::string, std::int64_t>;

const std::string kRows = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";

struct ReadResult {
  std::vector<std::string> texts;
  Counts notices, skipped;
};

ReadResult read_inputs(const TextInputs& inputs, const TextConfig& config = {}) {
  TextSource source(inputs, config);
  ReadResult result;
  for (Document document; source.next(document);) result.texts.push_back(document.text);
  result.notices = source.notices().counts(), result.skipped = source.skipped().counts();
  return result;
}

TEST(TextFormat, RowsAreRecognizedUnderAnyName) {
  for (const char* name : {"a.jsonl", "a.ndjson", "a.jsonlines", "a.json", "a.txt", "part-0000", "a.JSONL"}) {
    const TempFolder folder;
    const ReadResult actual = read_inputs({{folder.write_file(name, kRows)}});
    EXPECT_EQ(actual.texts, (std::vector<std::string>{"one", "two"})) << name;
    const bool by_name = fs::path(name).extension().string().ends_with("l") ||
                         fs::path(name).extension() == ".ndjson" || fs::path(name).extension() == ".jsonlines";
    EXPECT_EQ(actual.notices, by_name && name != std::string("a.JSONL") ? Counts{} : (Counts{{"rows_by_content", 1}}))
        << name;
  }
  const TempFolder folder;
  folder.write_file("part-0000.json.gz", gzip(kRows));
  folder.write_file("part-0001", gzip(kRows));
  const ReadResult actual = read_inputs({{folder / ""}});
  EXPECT_EQ(actual.texts.size(), 4u);
  EXPECT_EQ(actual.notices, (Counts{{"packed_by_content", 1}, {"rows_by_content", 2}}));
}

TEST(TextFormat, AFirstRowThatIsNoJsonIsAnErrorAndNotText) {
  const TempFolder folder;
  expect_error(Fault::kData, {"part-0:1: column 20", "NaN", "--data.format text"},
               [&] { read_inputs({{folder.write_file("part-0", "{\"text\": \"x\", \"p\": NaN}\n" + kRows)}}); });
  expect_error(Fault::kData, {"part-1:1:", "'text' (it has content, id)", "--data.text_field NAME"},
               [&] { read_inputs({{folder.write_file("part-1", "{\"content\": \"x\", \"id\": 1}\n")}}); });
  EXPECT_EQ(read_inputs({{folder / "part-1"}}, {.text_field = "content"}).texts, std::vector<std::string>{"x"});
  EXPECT_EQ(read_inputs({{folder / "part-1"}}, {.format = "text"}).texts.size(), 1u);
  const std::string longer = "{\"id\": 1, \"text\": \"" + std::string(2 * kHeadBytes, 'x') + "\"}\n";
  EXPECT_EQ(read_inputs({{folder.write_file("part-2", longer)}}).notices, (Counts{{"rows_by_content", 1}}))
      << "longer than the head";
}

TEST(TextFormat, ArraysOfRowsAreReadAndOtherJsonIsTextWithAWord) {
  const TempFolder folder;
  const ReadResult array = read_inputs({{folder.write_file(
      "a.json", "\xEF\xBB\xBF[\n  {\"text\": \"a ] } \\\" b\", \"more\": [{}]},\n{\"text\":\"c\"}\n]\n")}});
  EXPECT_EQ(array.texts, (std::vector<std::string>{"a ] } \" b", "c"}));
  EXPECT_EQ(array.notices, (Counts{{"byte_order_mark", 1}}));
  EXPECT_EQ(read_inputs({{folder.write_file("b.txt", "[{\"text\":\"x\"}]")}}).notices,
            (Counts{{"array_by_content", 1}}));
  std::vector<Document> documents = read_all({{folder / "a.json"}});
  EXPECT_EQ(documents[0].line, 2);
  EXPECT_EQ(documents[1].line, 3);
  for (const char* text :
       {"{\n  \"name\": \"package\"\n}\n", "[\"one\", \"two\"]", "[1, 2]", "{\"a\": 1,\n \"b\": 2}"}) {
    const ReadResult actual = read_inputs({{folder.write_file("c.json", text)}});
    EXPECT_EQ(actual.texts, std::vector<std::string>{text});
    EXPECT_EQ(actual.notices, (Counts{{"json_as_text", 1}}));
  }
  for (const char* text : {"{ x = 1 }\n", "[link](x)\n", "{'a': 1}\n", "{\"quoted\"}\n", "[[{\"a\":1}]]", "{\n"})
    EXPECT_EQ(read_inputs({{folder.write_file("d.txt", text)}}).notices, Counts{}) << text;
}

TEST(TextFormat, TablesAreTextWithAWord) {
  const TempFolder folder;
  const std::string csv = "id,text\n1,\"one\"\n";
  folder.write_file("a.csv", csv), folder.write_file("b.tsv", csv), folder.write_file("c.csv.gz", gzip(csv)),
      folder.write_file("d.txt", csv);
  TextSource source({{folder / ""}}, {});
  int documents = 0;
  for (Document document; source.next(document); ++documents) EXPECT_EQ(document.text, csv);
  EXPECT_EQ(documents, 4);
  EXPECT_EQ(source.notices().counts(), (Counts{{"csv_as_text", 3}}));
  EXPECT_EQ(source.notices().places_json(), (Json{{"csv_as_text", {"a.csv", "b.tsv", "c.csv.gz"}}}));
  EXPECT_EQ(read_inputs({{folder / ""}}, {.format = "text"}).notices, Counts{}) << "as it was asked for";
}

TEST(TextFormat, TheCommandThatConvertsUtf16NamesTheFile) {
  using namespace std::string_literals;
  const TempFolder folder;
  const std::string utf16 = "\xFF\xFEh\0i\0"s, path = folder.write_file("u16.jsonl", utf16);
  expect_error(Fault::kData, {"expected; convert it with iconv -f UTF-16 -t UTF-8 " + path + " > utf8.jsonl"},
               [&] { read_inputs({{path}}); });
  const std::string packed = folder.write_file("u16.jsonl.gz", gzip(utf16));
  expect_error(Fault::kData, {packed + ": ", "unpack it and convert it with iconv", " " + path + " > utf8.jsonl"},
               [&] { read_inputs({{packed}}); });
}

TEST(TextSource, APackedFileThatIsLeftOutIsNamedAsItIsOnDiskAndWarnedOfOnce) {
  const TempFolder folder;
  std::string rows;
  for (int i = 0; i < 500; ++i) rows += join("{\"text\":\"", i * i, "\"}\n");
  const std::string gzipped = gzip(rows),
                    cut = folder.write_file("cut.jsonl.gz", gzipped.substr(0, gzipped.size() / 2));
  const TextConfig config{.on_bad = "skip"};
  const InputList list = list_inputs({{cut}});
  for (const bool is_second_pass : {false, true}) {
    testing::internal::CaptureStderr();
    TextSource source(list, config, is_second_pass);
    for (Document document; source.next(document);) EXPECT_EQ(document.origin_path, "cut.jsonl");
    EXPECT_EQ(source.skipped().places_json(), (Json{{"unreadable", {"cut.jsonl.gz"}}}));
    const std::string stderr_text = testing::internal::GetCapturedStderr();
    EXPECT_EQ(stderr_text.find("cut.jsonl.gz: the gzip data ends too early") == std::string::npos, is_second_pass)
        << stderr_text;
  }
}

TEST(TextFormat, AByteOrderMarkIsNoPartOfTheText) {
  const TempFolder folder;
  const ReadResult actual = read_inputs(
      {{folder.write_file("a.txt", "\xEF\xBB\xBFtext"), folder.write_file("b.jsonl", "\xEF\xBB\xBF" + kRows)}});
  EXPECT_EQ(actual.texts, (std::vector<std::string>{"text", "one", "two"}));
  EXPECT_EQ(actual.notices, (Counts{{"byte_order_mark", 2}}));
}

TEST(Compressed, ZerosBehindGzipAndWindowsOfTwoGibAreGood) {
  const TempFolder folder;
  const std::string padded = folder.write_file("a.txt.gz", gzip("one\n") + gzip("two\n") + std::string(700'000, '\0'));
  const ReadResult actual = read_inputs({{padded}});
  EXPECT_EQ(actual.texts, std::vector<std::string>{"one\ntwo\n"});
  EXPECT_EQ(actual.notices, (Counts{{"gzip_padding", 1}}));
  EXPECT_EQ(read_inputs({{folder.write_file("b.txt.gz", gzip("one\n") + std::string(3, '\0') + gzip("two\n"))}}).texts,
            std::vector<std::string>{"one\ntwo\n"});
  // A frame by hand (RFC 8878): no flags, a window of 2^(10 + 21) bytes, one last raw block of 5 bytes.
  using namespace std::string_literals;
  EXPECT_EQ(read_inputs({{folder.write_file("c.txt.zst", "\x28\xB5\x2F\xFD\0\xA8\x29\0\0hello"s)}}).texts,
            std::vector<std::string>{"hello"});
}

TEST(InputList, WhatIsNoFileIsNamedOrCountedAndNeverWaitedFor) {
  const TempFolder folder;
  folder.write_file("good.txt", "good");
  const auto expect_bad = [&](const char* reason, const std::vector<std::string>& substrings) {
    expect_error(Fault::kData, substrings, [&] { list_inputs({{folder / ""}}); });
    const ReadResult remaining = read_inputs({{folder / ""}}, {.on_bad = "skip"});
    EXPECT_EQ(remaining.texts, std::vector<std::string>{"good"});
    EXPECT_EQ(remaining.skipped, (Counts{{reason, 1}}));
    fs::remove_all(folder / "bad");
  };
  fs::create_symlink("nowhere", folder / "bad");
  expect_bad("unreadable", {"bad", "link to nowhere, which does not exist", "--data.on_bad skip"});
  fs::create_symlink("bad", folder / "bad");
  expect_bad("unreadable", {"bad", "leads back to itself"});
  ASSERT_EQ(::mkfifo((folder / "bad").c_str(), 0600), 0);
  expect_bad("not_a_file", {"bad", "pipe"});
  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  (folder / "bad").string().copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  expect_bad("not_a_file", {"bad", "socket"});
  ::close(socket);
  fs::create_symlink("/dev/zero", folder / "bad");
  expect_bad("not_a_file", {"bad", "device"});
  if (::geteuid() != 0) {
    fs::create_directory(folder / "bad");
    fs::permissions(folder / "bad", fs::perms::none);
    expect_bad("unreadable", {"bad", "Permission denied"});
  }
  expect_error(Fault::kData, {"dangling", "which does not exist"}, [&] {
    fs::create_symlink("nowhere", folder / "dangling");
    list_inputs({{folder / "dangling"}});
  });
  EXPECT_EQ(read_inputs({{folder / "dangling", folder / "good.txt"}}, {.on_bad = "skip"}).skipped,
            (Counts{{"unreadable", 1}}));
  expect_error(Fault::kData, {"No such file"}, [&] { list_inputs({{folder / "typo.txt"}}, /*skip_bad=*/true); });
}

TEST(InputList, LinksToFoldersAreNotedAndCyclesDoNoHarm) {
  const TempFolder folder;
  folder.write_file("sub/a.txt", "a");
  fs::create_directory_symlink("..", folder / "sub/up");
  const ReadResult actual = read_inputs({{folder / ""}});
  EXPECT_EQ(actual.texts, std::vector<std::string>{"a"});
  EXPECT_EQ(actual.notices, (Counts{{"linked_folder", 1}}));
  EXPECT_EQ(read_inputs({{folder / "sub/up"}}).texts, std::vector<std::string>{"a"})
      << "a link that is named is followed";
}

TEST(InputList, AFileThatIsReachedTwiceIsReadOnce) {
  const TempFolder folder;
  const std::string path = folder.write_file("sub/a.txt", "a");
  fs::create_hard_link(path, folder / "sub/b.txt");
  fs::create_symlink("a.txt", folder / "sub/c.txt");
  const ReadResult actual = read_inputs({{path, path, (folder / "").string(), (folder / "sub").string()}});
  EXPECT_EQ(actual.texts, std::vector<std::string>{"a"});
  EXPECT_EQ(actual.notices, (Counts{{"same_file", 7}}));
  EXPECT_EQ(list_inputs({{folder / "", path}}).files[0].name, "a.txt") << "the first by name counts";
}

TEST(InputList, WhatSlipwayWroteIsNoText) {
  const TempFolder folder;
  folder.write_file("a.txt", "a");
  folder.write_file("run/config.ini", "x");
  folder.write_file("run/checkpoints/step-00000001/manifest.json", "{}");
  folder.write_file("half.partial/tokenizer.json", "{}");
  folder.write_file(std::string("half.partial/") + kPartialMarker, "");
  folder.write_file("data/manifest.json", "{\"schema\": \"slipway.data\"}");
  folder.write_file("data/manifest.sha256", "");
  folder.write_file("checkpoint/manifest.json", "{\"schema\": \"slipway.checkpoint\"}");
  folder.write_file("checkpoint/manifest.sha256", "");
  const std::string own_output = folder.write_file("own.json", "{\"text\": \"x\"}");
  const ReadResult actual =
      read_inputs({.paths = {folder / ""}, .glob = {}, .excluded = {own_output, folder / "not there"}});
  EXPECT_EQ(actual.texts, std::vector<std::string>{"a"});
  EXPECT_EQ(actual.notices, (Counts{{"own_output", 5}}));
  expect_error(Fault::kData, {"run is a run folder"}, [&] { list_inputs({{folder / "run"}}); });
  folder.write_file("foreign/manifest.json", "{\"schema\": \"other\"}");
  folder.write_file("foreign/manifest.sha256", "0");
  EXPECT_EQ(list_inputs({{folder / "foreign"}}).files.size(), 2u) << "names alone do not make a folder ours";
}

TEST(InputList, NamesThatAreNotUtf8AreReadAndWrittenAsJson) {
  const TempFolder in, out;
  in.write_file("a\xFF.txt", "one\ntwo\n");
  in.write_file("b\xFF.txt", "");
  PrepareConfig config{.validation_fraction = 0};
  config.text.on_bad = "skip";
  prepare_corpus({{in / ""}}, config, byte_tokenizer(), out / "data");
  const Json manifest = verify_corpus(out / "data");
  EXPECT_EQ(manifest.at("skipped_first").at("empty_file")[0], "b\xEF\xBF\xBD.txt");
}

TEST(TextConfig, OddValuesAreRefusedByName) {
  const auto expect_refused = [](const TextConfig& config, const char* key) {
    expect_error(Fault::kConfig, {key}, [&] { config.check(); });
  };
  expect_refused({.document_bytes = 0}, "data.document_bytes");
  expect_refused({.document_bytes = INT64_MAX}, "data.document_bytes");
  expect_refused({.max_line_bytes = INT64_MAX}, "data.max_line_bytes");
  expect_refused({.format = "csv"}, "data.format");
  expect_refused({.text_field = ""}, "data.text_field");
}

}  // namespace
}  // namespace slipway
