// NPY files. Read by numpy: tests/interop/safetensors_oracle.py.
#include <gtest/gtest.h>

#include <vector>

#include "io/data/npy.hpp"
#include "src/core/file.hpp"
#include "tests/support/core_files.hpp"

namespace slipway {
namespace {

TEST(Npy, HasTheHeaderOfVersionOneAndDataOnAMultipleOf64) {
  const ScratchFolder folder;
  write_npy(folder / "m.npy", 2, 3, [](const RowSink& add) {
    add(std::vector<float>{1, 2, 3});
    add(std::vector<float>{4, 5, 6});
  });
  const std::string bytes = read_file(folder / "m.npy", Fault::kStorage);
  const std::string header("\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 68);
  EXPECT_EQ(bytes.substr(0, header.size()), header);
  EXPECT_EQ(bytes[127], '\n');
  ASSERT_EQ(bytes.size(), 128u + 24u);
  EXPECT_EQ(bytes.substr(128 + 4, 4), std::string("\0\0\0\x40", 4));  // 2.0f
}

TEST(Npy, RowsOtherThanAnnouncedLeaveNoFile) {
  const ScratchFolder folder;
  expect_error(Fault::kBug, "1 rows, announced were 2",
               [&] { write_npy(folder / "m.npy", 2, 1, [](const RowSink& add) { add(std::vector<float>{1}); }); });
  expect_error(Fault::kBug, "a row of 2 numbers", [&] {
    write_npy(folder / "m.npy", 1, 1, [](const RowSink& add) { add(std::vector<float>{1, 2}); });
  });
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace slipway
