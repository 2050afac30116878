// Git LFS pointers: the short text files that a clone without git-lfs has in place of large files.
#pragma once

#include <string_view>

namespace slipway {

inline constexpr std::string_view kGitLfsPrefix = "version https://git-lfs.github.com/spec/";
inline constexpr std::string_view kGitLfsDescription = "a pointer of Git LFS in place of the file itself";
inline constexpr std::string_view kGitLfsHint = "fetch the file with git lfs pull";

}  // namespace slipway
