// The control groups of a process: where a container or a batch system limits its memory and CPUs.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace slipway {

/// The text of /proc/self/cgroup.
std::string process_cgroups();

/// Calls `visit(folder, version)` for the folder of the process's own group and of each group above, in each hierarchy
/// (version 1 or 2) that may hold `controller`. `groups`: as process_cgroups(); `root`: where the hierarchies
/// are mounted.
void for_each_cgroup(const std::string& groups, std::string_view controller, const std::filesystem::path& root,
                     const std::function<void(const std::filesystem::path& folder, int version)>& visit);

}  // namespace slipway
