// GGUF at byte level. Other readers of our files: tests/interop/gguf_oracle.py.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "io/model/gguf.hpp"
#include "tests/support/core_files.hpp"
#include "tests/support/malformed.hpp"

namespace slipway {
namespace {

GgufMetadata sample_metadata() {
  GgufMetadata data("sample");
  data.add("general.architecture", std::string("llama"));
  data.add("u8", std::uint8_t{200});
  data.add("i8", std::int8_t{-100});
  data.add("u16", std::uint16_t{60000});
  data.add("i16", std::int16_t{-30000});
  data.add("u32", std::uint32_t{4'000'000'000u});
  data.add("i32", std::int32_t{-2'000'000'000});
  data.add("f32", 0.1f);
  data.add("yes", true);
  data.add("no", false);
  data.add("text", std::string("a\0b\nü", 6));
  data.add("u64", std::uint64_t{1} << 63);
  data.add("i64", -(std::int64_t{1} << 62));
  data.add("f64", 0.1);
  data.add("words", GgufArray(std::vector<std::string>{"", "x", "two words"}));
  data.add("flags", GgufArray(std::vector<bool>{true, false, true}));
  data.add("numbers", GgufArray(std::vector<std::int32_t>{1, -2, 3}));
  data.add("large", GgufArray(std::vector<std::uint64_t>{1, 2}));
  data.add("none", GgufArray(std::vector<float>{}));
  return data;
}

void write_sample(const std::filesystem::path& path) {
  const std::vector<GgufTensorSpec> plan = {{{"first", {3, 5}}, TensorType::kF32},
                                            {{"second", {2, 64}}, TensorType::kQ8_0},
                                            {{"third", {7}}, TensorType::kF16}};
  write_gguf(path, sample_metadata(), plan, [&](std::size_t i, const ByteSink& sink) {
    const auto& [tensor, type] = plan[i];
    std::vector<float> values(static_cast<std::size_t>(tensor.size()));
    for (std::size_t k = 0; k < values.size(); ++k) values[k] = static_cast<float>(k) - 3.0f;
    std::vector<std::byte> bytes(static_cast<std::size_t>(bytes_of(type, tensor.size())));
    encode(type, values, bytes);
    sink(std::span(bytes).first(4));  // in pieces of any size
    sink(std::span(bytes).subspan(4));
  });
}

/// Opens the bytes and touches everything in them.
void open_all(const std::string& bytes) {
  static const ScratchFolder folder;
  const auto path = folder.path() / "candidate.gguf";
  test::write_new_file(path, bytes);
  const GgufFile file(path);
  for (const GgufTensor& tensor : file.tensors()) {
    std::vector<float> values(static_cast<std::size_t>(tensor.tensor.size()));
    file.read(tensor, values);
  }
}

TEST(GgufFile, HasTheBytesOfTheSpecification) {
  const ScratchFolder folder;
  const auto path = folder.path() / "tiny.gguf";
  GgufMetadata data;
  data.add("k", std::uint32_t{7});
  const std::vector<GgufTensorSpec> plan = {{{"t", {2, 3}}, TensorType::kF16}};
  write_gguf(path, data, plan,
             [](std::size_t, const ByteSink& sink) { sink(std::as_bytes(std::span("abcdefghijkl", 12))); });
  // clang-format off
  const std::string expected(
      "GGUF\3\0\0\0" "\1\0\0\0\0\0\0\0" "\1\0\0\0\0\0\0\0"            // version, tensors, pairs
      "\1\0\0\0\0\0\0\0k" "\4\0\0\0" "\7\0\0\0"                       // key, u32, 7
      "\1\0\0\0\0\0\0\0t" "\2\0\0\0"                                   // name, dimensions
      "\3\0\0\0\0\0\0\0" "\2\0\0\0\0\0\0\0" "\1\0\0\0" "\0\0\0\0\0\0\0\0"  // columns before rows, f16, offset
      "\0\0\0\0\0\0\0\0\0\0\0\0\0\0"                                    // up to byte 96
      "abcdefghijkl\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 128);
  // clang-format on
  EXPECT_EQ(read_file(path, Fault::kStorage), expected);
  EXPECT_EQ(gguf_file_bytes(data, plan), expected.size());
}

TEST(GgufFile, GivesBackEveryTypeOfValueInOrder) {
  const ScratchFolder folder;
  write_sample(folder.path() / "all.gguf");
  const GgufFile file(folder.path() / "all.gguf");
  const GgufMetadata expected = sample_metadata();
  ASSERT_EQ(file.metadata().size(), expected.size());
  auto actual = file.metadata().begin();
  for (const auto& pair : expected) EXPECT_EQ(*actual++, pair) << pair.first;

  EXPECT_EQ(file.metadata().integer("i16"), -30000);
  EXPECT_EQ(file.metadata().texts("words").back(), "two words");
  EXPECT_EQ(file.metadata().integers("numbers"), (std::vector<std::int64_t>{1, -2, 3}));
  EXPECT_EQ(file.metadata().real("absent", 2.5), 2.5);
}

TEST(GgufFile, QuestionsOfTheWrongTypeSayWhatIsThere) {
  const GgufMetadata data = sample_metadata();
  expect_error(Fault::kStorage, "sample: the key f32 has the type f32, expected an integer",
               [&] { data.integer("f32"); });
  expect_error(Fault::kStorage, "has the type u8, expected string", [&] { data.text("u8"); });
  expect_error(Fault::kStorage, "9223372036854775808", [&] { data.integer("u64"); });
  expect_error(Fault::kStorage, "an array of strings", [&] { data.texts("numbers"); });
  expect_error(Fault::kStorage, "the key absent is missing", [&] { data.real("absent"); });
}

TEST(GgufFile, TensorsComeBackByNameWithRowsBeforeColumns) {
  const ScratchFolder folder;
  write_sample(folder.path() / "all.gguf");
  const GgufFile file(folder.path() / "all.gguf");
  const GgufTensor& first = file.at("first");
  EXPECT_EQ(first.tensor.shape, (std::vector<std::int64_t>{3, 5}));
  std::vector<float> values(15);
  file.read(first, values);
  EXPECT_EQ(values[14], 11.0f);
  for (const GgufTensor& tensor : file.tensors()) EXPECT_EQ(tensor.offset % 32, 0u);
  EXPECT_THROW(file.at("fourth"), Error);
}

TEST(GgufFile, EveryCutIsRefusedWithASentence) {
  const ScratchFolder folder;
  write_sample(folder.path() / "all.gguf");
  const std::string good = read_file(folder.path() / "all.gguf", Fault::kStorage);
  const GgufFile file(folder.path() / "all.gguf");
  const std::size_t end_of_data = file.tensors().back().offset + file.tensors().back().bytes;  // padding may be missing
  test::expect_truncation_refused(good, end_of_data, Fault::kStorage, open_all);
  EXPECT_TRUE(test::opens_or_refuses(good.substr(0, end_of_data), Fault::kStorage, open_all));
}

TEST(GgufFile, FlippedBytesNeverCrashTheReader) {
  const ScratchFolder folder;
  write_sample(folder.path() / "all.gguf");
  const std::string good = read_file(folder.path() / "all.gguf", Fault::kStorage);
  test::expect_byte_flips_handled(good, good.size() - 400, /*rounds=*/1500, Fault::kStorage, open_all);
}

TEST(GgufFile, HugeCountsAreRefusedBeforeAnythingIsAllocated) {
  std::string header("GGUF\3\0\0\0", 8);
  const std::string huge(8, '\x7f'), none(8, '\0');
  for (const std::string& counts : {huge + none, none + huge, std::string(8, '\xff') + none})
    EXPECT_FALSE(test::opens_or_refuses(header + counts + std::string(64, '\0'), Fault::kStorage, open_all));
  // one key with an array of 2^63 - 1 elements
  const std::string key("\1\0\0\0\0\0\0\0k\x9\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f", 25);
  EXPECT_FALSE(test::opens_or_refuses(header + none + std::string("\1\0\0\0\0\0\0\0", 8) + key + std::string(64, '\0'),
                                      Fault::kStorage, open_all));
}

TEST(GgufFile, AFullDiskLeavesTheOldFileAndNothingElse) {
  const ScratchFolder folder;
  const auto path = folder.path() / "model.gguf";
  atomic_write_file(path, "old");
  struct rlimit old_limit {};
  getrlimit(RLIMIT_FSIZE, &old_limit);
  signal(SIGXFSZ, SIG_IGN);  // so that the write fails with EFBIG, as it would with ENOSPC
  const struct rlimit tight_limit { .rlim_cur = 512, .rlim_max = old_limit.rlim_max };
  setrlimit(RLIMIT_FSIZE, &tight_limit);
  EXPECT_THROW(write_sample(path), Error);
  setrlimit(RLIMIT_FSIZE, &old_limit);
  EXPECT_EQ(read_file(path, Fault::kStorage), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

}  // namespace
}  // namespace slipway
