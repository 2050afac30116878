// Shared by tests of files and errors: a temporary folder, and a check of an error's fault and message.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "src/core/error.hpp"

namespace slipway {

/// A fresh folder under the system's temporary one, removed with everything in it.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "slipway-test-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr)
      throw Error(Fault::kStorage, join("mkdtemp ", pattern, ": ", errno_message()));
    path_ = pattern;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// Runs `fn`, which must throw an Error of this fault whose message contains `substring`.
inline void expect_error(Fault fault, std::string_view substring, const std::function<void()>& fn) {
  try {
    fn();
    ADD_FAILURE() << "expected an error of fault " << name(fault) << " with '" << substring
                  << "', but nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(name(error.fault()), name(fault)) << error.what();
    EXPECT_NE(std::string_view(error.what()).find(substring), std::string_view::npos)
        << "'" << substring << "' not in: " << error.what();
  }
}

}  // namespace slipway
