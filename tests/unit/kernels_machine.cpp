// Tables, threads, and what ops refuse.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "kernels/backend/cpu_backend.hpp"
#include "kernels/backend/runtime.hpp"
#include "src/core/cpus.hpp"

namespace slipway {
namespace {

TEST(KernelTables, HaveEveryEntryAndANameOfTheirOwn) {
  std::vector<std::string> names;
  for (const Backend* backend : all_backends()) {
    names.push_back(join(backend->name, backend->instructions, backend->gemm_library));
    constexpr std::size_t kFirstOp = offsetof(Backend, matmul);  // everything behind the names is a function
    for (std::size_t offset = kFirstOp; offset < sizeof(Backend); offset += sizeof(void*)) {
      const void* entry = nullptr;
      std::memcpy(&entry, reinterpret_cast<const char*>(backend) + offset, sizeof(entry));
      EXPECT_NE(entry, nullptr) << backend->name << ", entry " << (offset - kFirstOp) / sizeof(void*);
    }
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::unique(names.begin(), names.end()), names.end());
  EXPECT_STREQ(cpu_backend().name, "cpu");
}

TEST(Instructions, AreTheBestUnlessAKeySaysOtherwise) {
  const std::vector<std::string_view> sets = instruction_sets();
  ASSERT_GE(sets.size(), 2u);
  EXPECT_EQ(sets.front(), "auto");
  EXPECT_EQ(cpu_backend().instructions, sets.back());
  for (const std::string_view set : sets)
    if (set != "auto") {
      EXPECT_EQ(cpu_backend(set).instructions, set);
    }
  try {
    cpu_backend("sse9");
    FAIL() << "took sse9";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    EXPECT_NE(std::string(error.what()).find("base"), std::string::npos) << error.what();
  }
}

TEST(RuntimeTest, HasThreadsOfItsOwn) {
  const Runtime three({.threads = 3}), default_runtime({});
  EXPECT_EQ(three.threads(), 3);
  EXPECT_EQ(three.backend().main_stream().threads, 3);
  EXPECT_EQ(default_runtime.threads(), available_cpus());
  EXPECT_THROW(Runtime({.threads = -1}), Error);
}

/// oneDNN takes its limit once: the first runtime of this process has said auto.
TEST(RuntimeTest, OfAProcessHaveOneLimitOfTheMatmuls) {
  if (std::string_view(cpu_backend().gemm_library) != "onednn") GTEST_SKIP() << "this build has no oneDNN";
  const Runtime first({.instructions = "auto"});
  try {
    const Runtime second({.instructions = "base"});
    FAIL() << "took a second limit";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    for (const char* substring : {"base", "auto"})
      EXPECT_NE(std::string(error.what()).find(substring), std::string::npos) << error.what();
  }
}

TEST(CpuFeatures, AgreeWithTheKernelsView) {
  std::ifstream file("/proc/cpuinfo");
  std::string flags;
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("flags")) flags = line + " ";
  if (flags.empty()) GTEST_SKIP() << "/proc/cpuinfo names no flags here";
  const CpuFeatures features = cpu_features();
  EXPECT_FALSE(features.model.empty());
  EXPECT_EQ(features.avx2, flags.find(" avx2 ") != std::string::npos);
  EXPECT_EQ(features.avx512_bf16, flags.find(" avx512_bf16 ") != std::string::npos);
  EXPECT_EQ(features.amx_bf16, flags.find(" amx_bf16 ") != std::string::npos);
  if (!features.avx512_bf16 && !features.amx_bf16) {
    EXPECT_FALSE(features.native_bf16);
  }
}

TEST(RopeTable, RefusesAnOddHead) {
  std::vector<float> storage(8);
  EXPECT_THROW(rope_table({storage.data(), 2, 2, 2}, {storage.data() + 4, 2, 2, 2}, 5, 10000.0), Error);
}

TEST(Rope, RefusesAPositionOutsideItsTable) {
  std::vector<float> storage(8), x(4);
  rope_table({storage.data(), 2, 2, 2}, {storage.data() + 4, 2, 2, 2}, 4, 10000.0);
  const int position = 2;
  Stream stream;
  EXPECT_THROW(
      cpu_backend().rope(
          stream,
          {Matrix<float>{x.data(), 1, 4, 4}, &position, {storage.data(), 2, 2, 2}, {storage.data() + 4, 2, 2, 2}, 4}),
      Error);
}

}  // namespace
}  // namespace slipway
