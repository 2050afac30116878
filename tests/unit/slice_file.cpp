// Direct-I/O files: reads return what was written, page-aligned or not.
#include "io/checkpoint/slice_file.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>

#include "src/core/file.hpp"
#include "src/core/hash.hpp"
#include "tests/support/core_files.hpp"

namespace slipway {
namespace {

/// `count` bytes of no pattern, on a page.
struct PageAlignedBytes {
  explicit PageAlignedBytes(std::size_t count)
      : bytes(static_cast<char*>(std::aligned_alloc(kPageBytes, (count / kPageBytes + 1) * kPageBytes)), &std::free) {
    for (std::size_t i = 0; i < count; ++i) bytes.get()[i] = static_cast<char>((i * 2654435761u) >> 13);
  }
  std::unique_ptr<char, decltype(&std::free)> bytes;
};

TEST(SliceFile, WritesWhatLiesOnAPageAndWhatDoesNot) {
  const ScratchFolder scratch;
  const std::filesystem::path path = scratch / "file";
  constexpr std::size_t kBytes = 3 * kPageBytes + 100;
  const PageAlignedBytes buffer(kBytes);
  const std::string_view content(buffer.bytes.get(), kBytes);
  for (const std::size_t cut : {std::size_t{0}, std::size_t{1}, kPageBytes, kPageBytes + 7, 2 * kPageBytes}) {
    atomic_write_file(path, "");
    SliceFile file(path);
    file.reserve(kBytes);
    file.write(content.data() + cut, kBytes - cut, cut);  // the later part first: places are the caller's
    file.write(content.data(), cut, 0);
    file.close();
    EXPECT_EQ(read_file(path, Fault::kStorage), content) << cut;
  }
}

TEST(SliceFile, OnePassGivesTheHashesOfTheFileAndOfItsRanges) {
  const ScratchFolder scratch;
  const std::filesystem::path path = scratch / "file";
  constexpr std::size_t kBytes = (20 << 20) + 12345;  // more than two transfers, and no whole page at the end
  const PageAlignedBytes buffer(kBytes);
  const char* bytes = buffer.bytes.get();
  atomic_write_file(path, {bytes, kBytes});
  const std::vector<FileRange> ranges{{9 << 20, 4096}, {0, 100}, {kBytes - 5, 5}, {4096, 8 << 20}, {100, 0}};
  const FileHashes actual = hash_on_disk(path, ranges);
  EXPECT_EQ(actual.file, xxh3_hex(bytes, kBytes));
  ASSERT_EQ(actual.ranges.size(), ranges.size());
  for (std::size_t i = 0; i < ranges.size(); ++i)
    EXPECT_EQ(actual.ranges[i], xxh3_hex(bytes + ranges[i].offset, ranges[i].bytes)) << i;

  const FileRange beyond{kBytes - 3, 100};
  EXPECT_EQ(hash_on_disk(path, {&beyond, 1}).ranges[0], xxh3_hex(bytes + kBytes - 3, 3));  // what is there of it
}

TEST(SliceFile, SaysWhichFileCannotBeOpened) {
  const ScratchFolder scratch;
  EXPECT_THROW(SliceFile(scratch / "none"), Error);
  EXPECT_THROW(hash_on_disk(scratch / "none", {}), Error);
}

}  // namespace
}  // namespace slipway
