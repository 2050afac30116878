// Files: whole reads, atomic replacement, failing disks, memory maps, and hashes against published vectors.
#include "src/core/file.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <iterator>
#include <thread>

#include "src/core/hash.hpp"
#include "tests/support/core_files.hpp"

namespace slipway {
namespace {

/// Files may not grow past `bytes` while this lives: the nearest thing to a full disk that any user can have.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &old_limit_);
    const rlimit limit{bytes, old_limit_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_limit_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit old_limit_{};
  void (*handler_)(int);
};

std::ptrdiff_t count_entries(const ScratchFolder& folder) {
  return std::distance(std::filesystem::directory_iterator(folder.path()), {});
}

TEST(ReadFileTest, GivesEveryByte) {
  const ScratchFolder folder;
  std::string bytes(200'003, '\0');  // more than one block, NUL and newline bytes included
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31);
  std::ofstream(folder / "f", std::ios::binary) << bytes;
  EXPECT_TRUE(read_file(folder / "f", Fault::kData) == bytes);
}

TEST(ReadFileTest, ReadsFilesWhoseSizeIsNotKnown) {
  EXPECT_FALSE(read_file("/proc/self/status", Fault::kData).empty());
}

TEST(ReadFileTest, WhatCannotBeReadIsTheCallersFaultWithPathAndReason) {
  const ScratchFolder folder;
  expect_error(Fault::kData, "none: No such file or directory", [&] { read_file(folder / "none", Fault::kData); });
  expect_error(Fault::kConfig, "Is a directory", [&] { read_file(folder.path(), Fault::kConfig); });
  std::filesystem::create_symlink(folder / "loop", folder / "loop");
  expect_error(Fault::kStorage, "Too many levels", [&] { read_file(folder / "loop", Fault::kStorage); });
}

TEST(ReadFileTest, WhatMayNeverEndIsRefusedAndWhatAShellGivesIsRead) {
  const ScratchFolder folder;
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  expect_error(Fault::kData, "fifo: it is a pipe, socket or device, expected a file",
               [&] { read_file(folder / "fifo", Fault::kData); });  // which would wait for a writer
  expect_error(Fault::kData, "expected a file", [&] { read_file("/dev/zero", Fault::kData); });
  EXPECT_EQ(read_file("/dev/null", Fault::kData), "");

  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  std::jthread writer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the reader is there first, and waits
    EXPECT_EQ(::write(pipe_fds[1], "text", 4), 4);
    ::close(pipe_fds[1]);
  });
  EXPECT_EQ(read_file(join("/dev/fd/", pipe_fds[0]), Fault::kData), "text");
  ::close(pipe_fds[0]);
}

TEST(ReplaceFileTest, CreatesAndReplacesAndLeavesNothingElse) {
  const ScratchFolder folder;
  atomic_write_file(folder / "f", "old");
  atomic_write_file(folder / "f", "new");
  EXPECT_EQ(read_file(folder / "f", Fault::kBug), "new");
  EXPECT_EQ(count_entries(folder), 1);
}

TEST(ReplaceFileTest, WorksOnABareNameInTheCurrentFolder) {
  const ScratchFolder folder;
  const auto old_path = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  EXPECT_NO_THROW(atomic_write_file("bare", "text"));
  std::filesystem::current_path(old_path);
  EXPECT_EQ(read_file(folder / "bare", Fault::kBug), "text");
}

TEST(ReplaceFileTest, AFullDiskLeavesTheOldFileAndNoPartialOne) {
  const ScratchFolder folder;
  atomic_write_file(folder / "f", "old");
  {
    const FileSizeLimit size_limit(1000);
    expect_error(Fault::kStorage, "File too large", [&] { atomic_write_file(folder / "f", std::string(5000, 'x')); });
  }
  EXPECT_EQ(read_file(folder / "f", Fault::kBug), "old");
  EXPECT_EQ(count_entries(folder), 1);
}

TEST(ReplaceFileTest, AWriterThatThrowsLeavesTheOldFileAndNoPartialOne) {
  const ScratchFolder folder;
  atomic_write_file(folder / "f", "old");
  EXPECT_THROW(atomic_write_file_with(folder / "f",
                                      [](const std::filesystem::path& temporary) {
                                        std::ofstream(temporary) << "half";
                                        throw std::runtime_error("power cut");
                                      }),
               std::runtime_error);
  EXPECT_EQ(read_file(folder / "f", Fault::kBug), "old");
  EXPECT_EQ(count_entries(folder), 1);
}

TEST(ReplaceFileTest, AFolderInTheWayOrAMissingOneIsAStorageError) {
  const ScratchFolder folder;
  std::filesystem::create_directory(folder / "d");
  expect_error(Fault::kStorage, "d: Is a directory", [&] { atomic_write_file(folder / "d", "x"); });
  expect_error(Fault::kStorage, "No such file", [&] { atomic_write_file(folder / "none/f", "x"); });
  EXPECT_EQ(count_entries(folder), 1);
}

TEST(FileWriterTest, CountsBytesAndWritesMoreThanItsBuffer) {
  const ScratchFolder folder;
  const std::string chunk(700'001, 'p');
  FileWriter file(folder / "f");
  for (int i = 0; i < 4; ++i) file.write(chunk);
  file.write("end");
  EXPECT_EQ(file.position(), 4 * chunk.size() + 3);
  file.close();
  EXPECT_TRUE(read_file(folder / "f", Fault::kBug) == chunk + chunk + chunk + chunk + "end");
}

TEST(FileWriterTest, NoticesAFullDeviceAtFlush) {
  if (!std::filesystem::is_character_file("/dev/full")) GTEST_SKIP() << "this machine has no /dev/full";
  FileWriter file("/dev/full");
  file.write("some bytes");  // fits the buffer
  expect_error(Fault::kStorage, "cannot write /dev/full: No space left on device", [&] { file.flush(); });
}

TEST(FileWriterTest, NoticesADiskThatFillsUpInTheMiddle) {
  const ScratchFolder folder;
  const FileSizeLimit size_limit(1 << 20);
  FileWriter file(folder / "f");
  const std::string block(1 << 19, 'b');
  expect_error(Fault::kStorage, "cannot write", [&] {
    for (int i = 0; i < 8; ++i) file.write(block);
  });
}

TEST(MappedFileTest, ShowsTheBytesAndSurvivesMoves) {
  const ScratchFolder folder;
  atomic_write_file(folder / "f", "mapped");
  MappedFile first(folder / "f", Fault::kData);
  MappedFile second(std::move(first));
  EXPECT_EQ(second.text(), "mapped");
  first = std::move(second);
  EXPECT_EQ(first.text(), "mapped");
  EXPECT_EQ(first.bytes().size(), 6u);
}

TEST(MappedFileTest, AnEmptyFileIsEmptyAndAFolderIsAnError) {
  const ScratchFolder folder;
  atomic_write_file(folder / "f", "");
  EXPECT_EQ(MappedFile(folder / "f", Fault::kData).text(), "");
  expect_error(Fault::kData, "Is a directory", [&] { MappedFile(folder.path(), Fault::kData); });
  expect_error(Fault::kStorage, "No such file", [&] { MappedFile(folder / "none", Fault::kStorage); });
}

TEST(FreeBytesTest, AnswersForFoldersThatAreYetToBeMade) {
  const ScratchFolder folder;
  EXPECT_GT(free_bytes(folder.path()), 0u);
  EXPECT_GT(free_bytes(folder / "not/yet/there"), 0u);
}

// FIPS 180-4's examples, from NIST's example values page.
TEST(Sha256Test, MatchesThePublishedVectors) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// The empty input's value is in xxHash's own documentation and test suite (XXH3_128bits, seed 0).
TEST(Xxh3Test, MatchesThePublishedValueOfNothing) { EXPECT_EQ(xxh3_hex("", 0), "99aa06d3014798d86001c324468d497f"); }

TEST(HashTest, PiecesHashAsTheWholeAndAsTheFile) {
  const ScratchFolder folder;
  std::string bytes(1'300'001, '\0');  // more than one block of a file
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i >> 3);
  atomic_write_file(folder / "f", bytes);
  Sha256 sha;
  Xxh3 xxh;
  for (std::size_t offset = 0; offset < bytes.size(); offset += 77'777) {
    const auto chunk = std::string_view(bytes).substr(offset, 77'777);
    sha.add(chunk);
    xxh.add(chunk.data(), chunk.size());
  }
  const std::string expected_sha = sha256_hex(bytes);
  EXPECT_EQ(sha.hex(), expected_sha);
  EXPECT_EQ(sha256_file(folder / "f", Fault::kBug), expected_sha);
  EXPECT_EQ(xxh.hex(), xxh3_hex(bytes.data(), bytes.size()));
  EXPECT_EQ(xxh3_file(folder / "f", Fault::kBug), xxh.hex());
}

TEST(HashTest, OneFlippedBitChangesBoth) {
  std::string bytes(4099, 'z');
  const std::string sha = sha256_hex(bytes), xxh = xxh3_hex(bytes.data(), bytes.size());
  bytes[2047] ^= 1;
  EXPECT_NE(sha256_hex(bytes), sha);
  EXPECT_NE(xxh3_hex(bytes.data(), bytes.size()), xxh);
}

}  // namespace
}  // namespace slipway
