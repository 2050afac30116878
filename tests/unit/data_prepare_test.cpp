#include <map>

#include "src/core/hash.hpp"
#include "src/core/log.hpp"
#include "src/core/partial_folder.hpp"
#include "src/data/corpus.hpp"
#include "src/data/corpus_manifest.hpp"
#include "src/data/corpus_summary.hpp"
#include "tests/unit/data_support.hpp"

namespace slipway {
namespace {

using namespace data_test;

/// Some files of lines that repeat in part; `count` plain files and one JSONL.
void write_texts(const TempFolder& folder, int count) {
  for (int i = 0; i < count; ++i) {
    std::string text;
    for (int line = 0; line < 5 + i % 7; ++line) text += join("file ", i, " line ", line * line, "\n");
    folder.write_file(join("sub", i % 3, "/t", i, ".txt"), text);
  }
  folder.write_file("rows.jsonl",
                    "{\"text\":\"def f(): "
                    "pass\",\"lane\":\"code\",\"license\":\"MIT\"}\n{\"text\":\"hello\"}\n{\"text\":\"hello\"}\n");
}

std::string folder_bytes(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::string bytes;
  for (const fs::path& file : files) bytes += file.filename().string() + "\n" + read_file(file, Fault::kData);
  return bytes;
}

PrepareConfig make_config(std::int64_t document_bytes, double fraction, int threads = 1) {
  PrepareConfig config{.validation_fraction = fraction, .threads = threads};
  config.text.document_bytes = document_bytes;
  return config;
}

/// The text of a document, without BOS and EOS.
std::string decode_document(const Corpus& corpus, Split split, std::int64_t document) {
  std::vector<int> ids(static_cast<std::size_t>(corpus.document_tokens(split, document)));
  corpus.copy(split, document, 0, static_cast<std::int64_t>(ids.size()), ids.data());
  std::erase_if(ids, [](int id) { return id >= kBos; });
  return corpus.tokenizer().decode(ids);
}

TEST(Prepare, GivesEveryDocumentBackWithItsFacts) {
  const TempFolder in, out;
  write_texts(in, 20);
  const Tokenizer tokenizer = byte_tokenizer(/*add_bos=*/true);
  const Json manifest = prepare_corpus({{in / ""}}, make_config(64, 0.3), tokenizer, out / "data");
  const Corpus corpus = Corpus::open(out / "data");

  std::multimap<std::string, std::string> expected, actual;  // text -> lane, licence, origin and line
  for (const Document& document : read_all({{in / ""}}, {.document_bytes = 64}))
    expected.emplace(document.text,
                     join(document.lane, "|", document.license, "|", document.origin_path, "|", document.line));
  for (const Split split : kSplits) {
    EXPECT_GT(corpus.documents(split), 3);
    std::int64_t document = 0;
    for (const TokenShard& shard : corpus.shards(split)) {
      for (std::int64_t i = 0; i < shard.info().documents; ++i, ++document) {
        const DocumentMetadata metadata = corpus.document_metadata(split, document);
        const std::string text = decode_document(corpus, split, document);
        EXPECT_EQ(metadata.text_bytes, text.size());
        actual.emplace(text,
                       join(shard.info().lane, "|", metadata.license, "|", metadata.origin_path, "|", metadata.line));

        std::vector<int> ids(text.size() + 2);
        ASSERT_EQ(corpus.document_tokens(split, document), static_cast<std::int64_t>(ids.size()));
        corpus.copy(split, document, 0, static_cast<std::int64_t>(ids.size()), ids.data());
        EXPECT_EQ(ids.front(), kBos);
        EXPECT_EQ(ids.back(), kEos);
      }
    }
    EXPECT_EQ(document, corpus.documents(split));
  }
  EXPECT_EQ(actual, expected);
  EXPECT_EQ(manifest.at("tokenizer").at("sha256"), sha256_file(out / "data" / "tokenizer.json", Fault::kData));
  EXPECT_EQ(manifest.at("corpus_sha256"), corpus.corpus_sha256());
  EXPECT_FALSE(fs::exists(out / "data.partial"));
  EXPECT_EQ(verify_corpus(out / "data"), manifest);
}

TEST(Prepare, WritesEqualBytesForAnyThreadsAndAnyPlaceOfTheInput) {
  const TempFolder in, other_input, out;
  write_texts(in, 40);
  write_texts(other_input, 40);
  const Tokenizer tokenizer = byte_tokenizer();
  PrepareConfig config = make_config(50, 0.2);
  config.shard_tokens = 700;  // several shards
  prepare_corpus({{in / ""}}, config, tokenizer, out / "one");
  config.threads = 3;
  prepare_corpus(
      {{other_input.operator/("").string() + "/../" + fs::path(other_input / "").parent_path().filename().string()}},
      config, tokenizer, out / "three");
  const std::string bytes = folder_bytes(out / "one");
  EXPECT_GT(std::distance(fs::directory_iterator(out / "one"), fs::directory_iterator{}), 6);
  EXPECT_EQ(folder_bytes(out / "three"), bytes);
  EXPECT_EQ(bytes.find(fs::path(in / "").string()), std::string::npos) << "an artifact holds an absolute path";
}

TEST(Prepare, ManyThreadsKeepTheOrderOfManyDocuments) {
  const TempFolder in, out;
  for (int i = 0; i < 60; ++i) {  // 3 MB: more than one batch of the pipeline
    std::string text;
    for (int line = 0; line < 1000 + 37 * i; ++line) text += join("file ", i, " line ", line, "\n");
    in.write_file(join("t", i, ".txt"), text);
  }
  PrepareConfig config = make_config(3000, 0.2, 1);
  config.shard_tokens = 300'000;
  prepare_corpus({{in / ""}}, config, byte_tokenizer(), out / "one");
  config.threads = 5;
  prepare_corpus({{in / ""}}, config, byte_tokenizer(), out / "five");
  EXPECT_TRUE(folder_bytes(out / "five") == folder_bytes(out / "one"));  // megabytes, which no one wants printed
}

TEST(Prepare, HashesTheCorpusAndNotItsShards) {
  const TempFolder in, out;
  write_texts(in, 10);
  const auto corpus_sha = [&](const std::string& name, const PrepareConfig& config, const Tokenizer& tokenizer) {
    return prepare_corpus({{in / ""}}, config, tokenizer, out / name).at("corpus_sha256").get<std::string>();
  };
  const PrepareConfig plain = make_config(64, 0.2);
  PrepareConfig sharded = plain, other_lane = plain, other_fraction = plain;
  sharded.shard_tokens = 100;
  other_lane.text.lane = "docs";
  other_fraction.validation_fraction = 0.6;
  const std::string expected = corpus_sha("a", plain, byte_tokenizer());
  EXPECT_EQ(corpus_sha("b", sharded, byte_tokenizer()), expected);
  EXPECT_NE(corpus_sha("c", other_lane, byte_tokenizer()), expected);
  EXPECT_NE(corpus_sha("d", other_fraction, byte_tokenizer()), expected);
  EXPECT_NE(corpus_sha("e", plain, byte_tokenizer(true)), expected);
  EXPECT_NE(corpus_sha("f", make_config(20, 0.2), byte_tokenizer()), expected);
}

TEST(Prepare, SplitsByContentSoThatCopiesStayTogether) {
  const TempFolder in, out;
  std::string rows;
  for (int copy = 0; copy < 3; ++copy)
    for (int i = 0; i < 60; ++i) rows += join("{\"text\":\"document ", i, "\"}\n");
  const std::string path = in.write_file("a.jsonl", rows);
  const Json manifest = prepare_corpus({{path}}, make_config(64, 0.25), byte_tokenizer(), out / "data");
  EXPECT_EQ(manifest.at("documents"), 180);
  std::int64_t validation = 0;
  for (int i = 0; i < 60; ++i)  // the first byte of the hash decides for a fraction of 64 / 256
    validation += std::stoi(sha256_hex(join("document ", i)).substr(0, 2), nullptr, 16) < 64;
  const Json& metadata = manifest.at("splits").at("validation");
  EXPECT_EQ(metadata.at("distinct_documents"), validation);
  EXPECT_EQ(metadata.at("documents"), 3 * validation);
}

TEST(Prepare, MovesTheNearestDocumentToAnEmptySide) {
  const TempFolder in, out;
  const std::string path =
      in.write_file("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\"}\n{\"text\":\"c\"}\n{\"text\":\"c\"}\n");
  // By hand: sha256 of a begins with ca97, of b with 3e23, of c with 2e7d.
  const auto validation_text = [&](double fraction, const std::string& name) {
    prepare_corpus({{path}}, make_config(64, fraction), byte_tokenizer(), out / name);
    const Corpus corpus = Corpus::open(out / name);
    std::string texts;
    for (std::int64_t i = 0; i < corpus.documents(Split::kValidation); ++i)
      texts += decode_document(corpus, Split::kValidation, i);
    return texts;
  };
  EXPECT_EQ(validation_text(0.01, "low"), "cc");     // no key is below it: the smallest moves, with its duplicate
  EXPECT_EQ(validation_text(0.2, "between"), "cc");  // 0x2e7d / 65536 is 0.18: only c is below it
  EXPECT_EQ(validation_text(0.9, "high"), "bcc");    // all lie under it: the greatest, a, stays for training
  EXPECT_EQ(validation_text(0.0, "none"), "");
}

TEST(Prepare, NeedsTwoDistinctDocumentsForTwoSides) {
  const TempFolder in, out;
  const std::string path = in.write_file("a.jsonl", "{\"text\":\"same\"}\n{\"text\":\"same\"}\n");
  expect_error(Fault::kData, {"--data.document_bytes", "--data.validation_fraction 0"},
               [&] { prepare_corpus({{path}}, make_config(64, 0.02), byte_tokenizer(), out / "data"); });
  EXPECT_TRUE(fs::is_empty(out)) << "a refused run leaves something behind";
  EXPECT_EQ(prepare_corpus({{path}}, make_config(64, 0.0), byte_tokenizer(), out / "data").at("documents"), 2);
  EXPECT_EQ(verify_corpus(out / "data").at("splits").at("validation").at("documents"), 0);
}

TEST(Prepare, RefusesAFolderThatHoldsSomethingAndTakesAnEmptyOne) {
  const TempFolder in, out;
  const std::string path = in.write_file("a.txt", "one\ntwo\n");
  const PrepareConfig config = make_config(4, 0.5);
  out.write_file("data/keep.txt", "precious");
  expect_error(Fault::kConfig, {"not an empty folder"},
               [&] { prepare_corpus({{path}}, config, byte_tokenizer(), out / "data"); });
  EXPECT_EQ(read_file(out / "data/keep.txt", Fault::kData), "precious");
  fs::create_directories(out / "empty");
  out.write_file("empty.partial/left", "by an interrupted prepare");
  out.write_file(std::string("empty.partial/") + kPartialMarker, "host 1 then\n");
  prepare_corpus({{path}}, config, byte_tokenizer(), out.operator/("empty/"));
  verify_corpus(out / "empty");
  expect_error(Fault::kConfig, {"not an empty folder"},
               [&] { prepare_corpus({{path}}, config, byte_tokenizer(), out / "empty"); });
}

TEST(Prepare, RemovesOnlyAPartialFolderThatCarriesItsMark) {
  const TempFolder in, out;
  const std::string path = in.write_file("a.txt", "one\ntwo\n");
  const auto prepare = [&](const char* name) {
    return prepare_corpus({{path}}, make_config(4, 0.5), byte_tokenizer(), out / name);
  };
  out.write_file("a.partial/thesis.txt", "precious");
  expect_error(Fault::kConfig, {"a.partial is in the way", "thesis.txt", "--out"}, [&] { prepare("a"); });
  EXPECT_EQ(read_file(out / "a.partial/thesis.txt", Fault::kData), "precious");
  out.write_file("b.partial", "a file");
  expect_error(Fault::kConfig, {"b.partial is in the way"}, [&] { prepare("b"); });
  EXPECT_EQ(read_file(out / "b.partial", Fault::kData), "a file");
  fs::create_directories(out / "elsewhere");
  fs::create_directory_symlink(out / "elsewhere", out / "c.partial");
  expect_error(Fault::kConfig, {"c.partial is in the way"}, [&] { prepare("c"); });
  fs::create_directories(out / "d.partial");  // empty: nothing is lost
  prepare("d");
  EXPECT_FALSE(fs::exists(out / "d.partial"));
  EXPECT_FALSE(fs::exists(out / "d" / kPartialMarker));
}

TEST(Prepare, ASecondWriterIsRefusedByNameAndDisturbsNothing) {
  const TempFolder out;
  PartialFolder first(out / "data");
  out.write_file("data.partial/half", "written");
  expect_error(Fault::kConfig, {"is being written by process", join(::getpid()), "host", "--out"},
               [&] { PartialFolder second(out / "data"); });
  EXPECT_EQ(read_file(out / "data.partial/half", Fault::kData), "written");
  out.write_file("data/other", "came in between");
  expect_error(Fault::kConfig, {"was filled by another process"}, [&] { first.publish(); });
  fs::remove_all(out / "data");
  first.publish();
  EXPECT_EQ(read_file(out / "data/half", Fault::kData), "written");
  EXPECT_FALSE(fs::exists(out / "data" / kPartialMarker));
  EXPECT_FALSE(fs::exists(out / "data.partial"));
}

TEST(Prepare, WritesWithinItsInputAndNeverReadsWhatItWrote) {
  const TempFolder in;
  in.write_file("b.txt", "one\ntwo\nthree\n");
  in.write_file("m.txt", "four\nfive\n");
  atomic_write_file(in / "tokenizer.json", byte_tokenizer().to_json());
  const auto prepare = [&](const char* name) {
    return prepare_corpus({{in / ""}}, make_config(4, 0.5), byte_tokenizer(), in / name);
  };
  const Json first = prepare("a/data"), second = prepare("z");  // before and behind the texts in any order
  EXPECT_EQ(first.at("files"), 3);
  EXPECT_EQ(first.at("noted"), (Json{{"own_output", 1}}));
  EXPECT_EQ(second.at("corpus_sha256"), first.at("corpus_sha256"));
  EXPECT_EQ(second.at("noted_first"), (Json{{"own_output", {"a/data", "tokenizer.json"}}}));
  expect_error(Fault::kData, {"is a data folder", "--input"},
               [&] { prepare_corpus({{in / "z"}}, make_config(4, 0.5), byte_tokenizer(), in / "y"); });
}

TEST(Prepare, KeepsTheLicensesOfRowsAndTheOneThatIsGiven) {
  const TempFolder in, out;
  in.write_file("a.jsonl", "{\"text\":\"one\",\"license\":\"MIT\"}\n{\"text\":\"two\",\"license\":\"CC0-1.0\"}\n");
  PrepareConfig config = make_config(64, 0.5);
  prepare_corpus({{in / ""}}, config, byte_tokenizer(), out / "all");
  EXPECT_EQ(Corpus::open(out / "all").license(), "CC0-1.0 AND MIT");
  in.write_file("b.txt", "three");
  prepare_corpus({{in / ""}}, config, byte_tokenizer(), out / "some");
  EXPECT_EQ(Corpus::open(out / "some").license(), "");
  EXPECT_EQ(Corpus::open(out / "some").unlicensed(), 1);
  config.text.license = "MIT OR Apache-2.0";
  prepare_corpus({{in / ""}}, config, byte_tokenizer(), out / "given");
  EXPECT_EQ(Corpus::open(out / "given").license(), "CC0-1.0 AND MIT AND (MIT OR Apache-2.0)");
}

TEST(Prepare, ShowsLengthsAndTextsBySplitAndLane) {
  const TempFolder in, out;
  in.write_file("a.jsonl",
                "{\"text\":\"one\"}\n{\"text\":\"twenty-two letters ...\",\"lane\":\"code\"}\n{\"text\":\"four\"}\n");
  prepare_corpus({{in / ""}}, make_config(64, 0), byte_tokenizer(/*add_bos=*/true), out / "data");
  const Corpus corpus = Corpus::open(out / "data");
  const Json lengths = summarize_lengths(corpus), text = lengths.at("train").at("text");
  EXPECT_EQ(text.at("documents"), 2);
  EXPECT_EQ(text.at("least"), 5);  // BOS, one, EOS
  EXPECT_EQ(text.at("most"), 6);
  EXPECT_NEAR(text.at("bytes_per_token").get<double>(), 7.0 / 11.0, 1e-12);
  EXPECT_EQ(text.at("histogram"), Json::parse(R"([{"from":4,"to":7,"documents":2}])"));
  EXPECT_EQ(lengths.at("train").at("code").at("documents"), 1);
  EXPECT_TRUE(lengths.at("validation").empty());
  const Json rows = sample_rows(corpus, 2);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].at("lane"), "code");
  EXPECT_EQ(rows[0].at("segments")[0].at("text"), "twenty-two letters ...");
  EXPECT_EQ(rows[1].at("segments")[0].at("text"), "one");
  EXPECT_EQ(rows[1].at("line"), 1);
}

TEST(Prepare, CountsWhatItLeavesOut) {
  const TempFolder in, out;
  in.write_file("a.jsonl", "{\"text\":\"one\"}\n\n{\"text\":\"\xFF\"}\n\n{\"text\":\"two\"}\n");
  in.write_file("empty.txt", "");
  PrepareConfig config = make_config(64, 0.5);
  config.text.on_bad = "skip";
  const Json manifest = prepare_corpus({{in / ""}}, config, byte_tokenizer(), out / "data");
  EXPECT_EQ(manifest.at("skipped"), (Json{{"blank_line", 2}, {"empty_file", 1}, {"invalid_utf8", 1}}));
  EXPECT_EQ(manifest.at("skipped_first"),
            Json::parse(
                R"({"blank_line":["a.jsonl:2","a.jsonl:4"],"empty_file":["empty.txt"],"invalid_utf8":["a.jsonl:3"]})"));
  EXPECT_EQ(to_phrases(manifest.at("skipped"), manifest.at("skipped_first")),
            (std::vector<std::string>{"2 blank lines (blank_line): a.jsonl:2, a.jsonl:4",
                                      "1 empty file (empty_file): empty.txt",
                                      "1 text that is not UTF-8 (invalid_utf8): a.jsonl:3"}));
  EXPECT_EQ(manifest.at("documents"), 2);
  expect_error(Fault::kData, {"no document is left", "1 empty file"},
               [&] { prepare_corpus({{in / "empty.txt"}}, config, byte_tokenizer(), out / "none"); });
}

TEST(Prepare, StatesTheEntropiesOfTheTokens) {
  const TempFolder in, out;
  // One document "aabb" and EOS: counts 2, 2, 1 of 5; pairs aa, ab, bb, b-EOS once each.
  const Json manifest =
      prepare_corpus({{in.write_file("a.txt", "aabb")}}, make_config(64, 0.0), byte_tokenizer(), out / "data");
  const Json& train = manifest.at("splits").at("train");
  EXPECT_EQ(train.at("unique_tokens"), 3);
  EXPECT_NEAR(train.at("unigram_entropy_nats").get<double>(), 0.8 * std::log(2.5) + 0.2 * std::log(5.0),
              1e-6);  // stated to six decimals
  EXPECT_NEAR(train.at("bigram_entropy_nats").get<double>(), std::log(2.0), 1e-6);
  EXPECT_EQ(train.at("bigram_pairs"), 4);
}

TEST(Prepare, CountsManyPairsAsAPlainTableDoes) {
  const TempFolder in, out;
  std::string text;
  for (std::uint32_t i = 0, x = 1; i < 60'000; ++i)
    text += static_cast<char>(' ' + (x = x * 1664525u + 1013904223u) / 7 % 90);
  const TextInputs inputs{{in.write_file("a.txt", text)}};
  const Json manifest = prepare_corpus(inputs, make_config(1 << 20, 0.0), byte_tokenizer(), out / "data");
  std::map<int, double> firsts;
  std::map<std::pair<int, int>, double> pairs;
  std::vector<int> ids(text.begin(), text.end());
  ids.push_back(kEos);
  for (std::size_t i = 1; i < ids.size(); ++i) ++firsts[ids[i - 1]], ++pairs[{ids[i - 1], ids[i]}];
  double entropy = 0;
  for (const auto& [pair, count] : pairs)
    entropy += count * std::log(firsts[pair.first] / count) / static_cast<double>(ids.size() - 1);
  EXPECT_NEAR(manifest.at("splits").at("train").at("bigram_entropy_nats").get<double>(), entropy, 1e-6);
  EXPECT_EQ(manifest.at("splits").at("train").at("bigram_pairs"), ids.size() - 1);
  for (const int threads : {2, 5, 300})  // more than there are ids, too
    EXPECT_EQ(prepare_corpus(inputs, make_config(1 << 20, 0.0, threads), byte_tokenizer(), out / join(threads)),
              manifest);
}

class DamagedFolder : public testing::Test {
 protected:
  void SetUp() override {
    write_texts(in_, 4);
    prepare_corpus({{in_ / ""}}, make_config(64, 0.3), byte_tokenizer(), out_ / "data");
    for (const auto& entry : fs::directory_iterator(out_ / "data")) files_.push_back(entry.path());
  }
  TempFolder in_, out_;
  std::vector<fs::path> files_;
};

TEST_F(DamagedFolder, VerifyFindsFlippedBytesInEveryFile) {
  ASSERT_GE(files_.size(), 5u);
  for (const fs::path& file : files_) {
    const std::size_t stride = fs::file_size(file) / 40 + 1;  // for files with one hash, a sample suffices
    flip_bits(file, stride, [&](std::size_t at) {
      try {
        verify_corpus(out_ / "data");
        ADD_FAILURE() << "byte " << at << " of " << file.filename() << " was changed and not found";
      } catch (const Error& error) {
        ASSERT_EQ(error.fault(), Fault::kData) << error.what();
        const std::string stem = file.stem().string();  // manifest.json and manifest.sha256 name each other
        ASSERT_NE(std::string(error.what()).find(stem), std::string::npos) << error.what();
      }
    });
  }
  verify_corpus(out_ / "data");
}

TEST_F(DamagedFolder, EveryShorterLongerOrMissingFileIsFoundWhenOpened) {
  for (const fs::path& file : files_) {
    const std::string good = read_file(file, Fault::kData);
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, good.size() / 2, good.size() - 1}) {
      fs::resize_file(file, size);
      expect_error(Fault::kData, {file.stem().string()}, [&] { Corpus::open(out_ / "data"); });
    }
    if (file.extension() == ".tokens") {
      std::ofstream(file, std::ios::binary) << good << "x";
      expect_error(Fault::kData, {file.filename().string(), "extra bytes"}, [&] { Corpus::open(out_ / "data"); });
    }
    fs::remove(file);
    expect_error(Fault::kData, {file.filename().string()}, [&] { Corpus::open(out_ / "data"); });
    std::ofstream(file, std::ios::binary) << good;
  }
  Corpus::open(out_ / "data");
}

TEST_F(DamagedFolder, AFolderThatIsNoDataFolderIsNamedWithTheRemedy) {
  expect_error(Fault::kData, {"nowhere", "slipway data prepare"}, [&] { Corpus::open(out_ / "nowhere"); });
}

TEST_F(DamagedFolder, AManifestThatLiesIsFoundEvenWithItsHashMended) {
  const Json good = read_corpus_manifest(out_ / "data");
  const auto expect_detected = [&](const Json& forged) {
    write_manifest(out_ / "data", forged);
    expect_error(Fault::kData, {"slipway data prepare"}, [&] { verify_corpus(out_ / "data"); });
  };
  for (const char* pointer :
       {"/corpus_sha256", "/documents", "/splits/train/tokens", "/splits/validation/unigram_entropy_nats",
        "/splits/train/shards/0/xxh3", "/splits/train/lanes/text/documents", "/tokenizer/sha256"}) {
    Json forged = good;
    Json& value = forged.at(Json::json_pointer(pointer));
    value = value.is_string() ? Json("0") : Json(value.get<double>() + 1);
    expect_detected(forged);
  }
  Json newer = good;
  newer["schema_version"] = 2;
  expect_detected(newer);
}

TEST(Corpus, TellsOfAFlippedTokenWhenItIsTouchedAndNotBefore) {
  const TempFolder in, out;
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += join("line ", i, "\n");
  prepare_corpus({{in.write_file("a.txt", text)}}, make_config(1000, 0.0), byte_tokenizer(), out / "data");
  const fs::path shard = out / "data/train.text.00000.tokens";
  {
    std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(3'000'001);
    file.put('\x7f');
  }
  const Corpus corpus = Corpus::open(out / "data");
  std::vector<int> ids(10);
  corpus.copy(Split::kTrain, 0, 0, 10, ids.data());  // another block
  expect_error(Fault::kData, {"train.text.00000.tokens", "block 2"}, [&] {
    for (std::int64_t document = 0; document < corpus.documents(Split::kTrain); ++document)
      corpus.copy(Split::kTrain, document, 0, 10, ids.data());
  });
}

}  // namespace
}  // namespace slipway
