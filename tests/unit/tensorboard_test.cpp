// Event files at byte level. Read by tensorboard: tests/interop/tensorboard_oracle.py.
#include <gtest/gtest.h>

#include <cstring>

#include "io/tensorboard.hpp"
#include "tests/support/core_files.hpp"

namespace slipway {
namespace {

TEST(TensorBoard, Crc32cHasThePublishedValues) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);            // the check value of CRC catalogues
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);  // RFC 3720, appendix B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c(""), 0u);
}

TEST(TensorBoard, RecordsAreFramedAndAFileOpensWithItsVersion) {
  const ScratchFolder folder;
  TensorBoardWriter writer(folder / "tb", 0);
  EXPECT_TRUE(writer.path().filename().string().starts_with("events.out.tfevents."));
  writer.add_scalar("loss/train", 2.5, 3);
  writer.flush();
  std::string bytes = read_file(writer.path(), Fault::kStorage);
  std::vector<std::string> events;
  while (!bytes.empty()) {
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    ASSERT_LE(16 + length, bytes.size());
    events.push_back(bytes.substr(12, length));
    bytes.erase(0, 16 + length);
  }
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].substr(9),
            "\x1a\x0d"
            "brain.Event:2");  // behind the wall time, field 3
  EXPECT_EQ(events[1].substr(9), std::string("\x10\x03"
                                             "\x2a\x13\x0a\x11"
                                             "\x0a\x0a"
                                             "loss/train"
                                             "\x15\0\0\x20\x40",
                                             23));
}

TEST(TensorBoard, AResumedRunAddsAFileWhoseNameComesLater) {
  const ScratchFolder folder;
  std::vector<std::filesystem::path> paths;
  for (int run = 0; run < 12; ++run) paths.push_back(TensorBoardWriter(folder.path(), 1 + 100 * run).path());
  for (const auto& path : paths) EXPECT_TRUE(std::filesystem::exists(path)) << path;
  for (std::size_t i = 1; i < paths.size(); ++i) EXPECT_LT(paths[i - 1], paths[i]);
}

TEST(TensorBoard, AFolderThatCannotBeMadeIsAStorageFault) {
  const ScratchFolder folder;
  atomic_write_file(folder / "file", "x");
  expect_error(Fault::kStorage, "cannot make the folder", [&] { TensorBoardWriter(folder / "file" / "tb", 1); });
}

}  // namespace
}  // namespace slipway
