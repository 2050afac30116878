// RUN/lock: one run at a time, named; shared by the ranks of a run; gone with the last of them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include "launch/run_folder/run_lock.hpp"
#include "src/core/error.hpp"

namespace slipway {
namespace {

class RunLockTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "slipway-lock-XXXXXX").string();
    run_ = mkdtemp(name.data());
  }
  void TearDown() override { std::filesystem::remove_all(run_); }

  /// The error of a second run in another process; "" when it gets the lock.
  std::string try_second_run() {
    int pipe_fds[2];
    if (pipe(pipe_fds) != 0) return "no pipe";
    const pid_t child = fork();
    if (child == 0) {
      std::string message;
      try {
        const auto self_group = make_self_group();
        const RunLock lock(run_, *self_group);
      } catch (const Error& error) {
        message = join(error.exit_status(), " ", error.what());
      }
      _exit(::write(pipe_fds[1], message.data(), message.size()) < 0 ? 1 : 0);
    }
    ::close(pipe_fds[1]);
    std::string message(4096, '\0');
    const ssize_t count = ::read(pipe_fds[0], message.data(), message.size());
    message.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    ::close(pipe_fds[0]);
    waitpid(child, nullptr, 0);
    return message;
  }

  std::filesystem::path run_;
};

TEST_F(RunLockTest, RefusesASecondRunAndNamesTheFirst) {
  const auto self_group = make_self_group();
  const RunLock lock(run_, *self_group);
  const std::string message = try_second_run();
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  EXPECT_EQ(message.substr(0, 2), "2 ");
  EXPECT_NE(message.find(join("process ", getpid(), " on host ", host)), std::string::npos) << message;
  EXPECT_NE(message.find("choose another --run"), std::string::npos) << message;
}

TEST_F(RunLockTest, IsFreeAgainAfterTheRun) {
  const auto self_group = make_self_group();
  { const RunLock lock(run_, *self_group); }
  EXPECT_TRUE(std::filesystem::exists(run_ / "lock"));
  EXPECT_EQ(try_second_run(), "");
}

TEST_F(RunLockTest, LastsUntilTheLastRankLetsGo) {
  run_thread_group(3, [&](Group& group) {
    auto lock = std::make_unique<RunLock>(run_, group);
    group.barrier();
    if (group.rank() != 2) lock.reset();
    group.barrier();
    if (group.rank() == 2) {
      EXPECT_EQ(try_second_run().substr(0, 2), "2 ");
      lock.reset();
      EXPECT_EQ(try_second_run(), "");
    }
    group.barrier();
  });
}

TEST_F(RunLockTest, RefusesAllRanksAlike) {
  const int lock_fd = ::open((run_ / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  ASSERT_EQ(flock(lock_fd, LOCK_EX), 0);
  std::vector<std::string> message(2);
  run_thread_group(2, [&](Group& group) {
    try {
      const RunLock lock(run_, group);
    } catch (const Error& error) {
      message[static_cast<std::size_t>(group.rank())] = error.what();
    }
  });
  EXPECT_NE(message[0].find("another process"), std::string::npos) << message[0];  // it has not written its id yet
  EXPECT_EQ(message[0], message[1]);
  ::close(lock_fd);
}

TEST_F(RunLockTest, IsNotHandedToProgramsThatTheRunStarts) {
  const auto self_group = make_self_group();
  const RunLock lock(run_, *self_group);
  const std::string lock_file = std::filesystem::canonical(run_ / "lock").string();
  EXPECT_NE(std::system(("ls -l /proc/self/fd | grep -q '" + lock_file + "'").c_str()), 0);
}

TEST_F(RunLockTest, SaysWhenTheFolderIsNotThere) {
  const auto self_group = make_self_group();
  try {
    const RunLock lock(run_ / "missing", *self_group);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kStorage);
    EXPECT_NE(std::string(error.what()).find("No such file"), std::string::npos);
  }
}

}  // namespace
}  // namespace slipway
