#include "src/core/memory.hpp"

#include <malloc.h>

#include <algorithm>
#include <fstream>
#include <limits>

#include "src/core/control_groups.hpp"

namespace slipway {
namespace {

/// The value of `key` in a file of lines `key: number kB`, in bytes.
std::uint64_t kib_line(const char* path, const std::string& key) {
  std::ifstream lines(path);
  for (std::string word; lines >> word; lines.ignore(std::numeric_limits<std::streamsize>::max(), '\n')) {
    std::uint64_t kib = 0;
    if (word == key && lines >> kib) return kib * 1024;
  }
  return 0;
}

/// The files of a control group, by version.
struct GroupFiles {
  const char *limit, *usage, *inactive, *active;  // the last two: lines of memory.stat
};
constexpr GroupFiles kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
                               "total_active_file"},
    kVersion2{"memory.max", "memory.current", "inactive_file", "active_file"};

/// The bytes available under a group's limit; nullopt where it has none (`max`, or no such folder).
std::optional<std::uint64_t> left_of_group(const std::filesystem::path& group, const GroupFiles& names) {
  std::uint64_t limit = 0, usage = 0, files = 0;
  if (!(std::ifstream(group / names.limit) >> limit) || !(std::ifstream(group / names.usage) >> usage))
    return std::nullopt;
  std::ifstream stat(group / "memory.stat");
  std::uint64_t bytes = 0;
  for (std::string key; stat >> key >> bytes;)
    if (key == names.inactive || key == names.active) files += bytes;
  usage -= std::min(usage, files);
  return limit - std::min(limit, usage);
}

}  // namespace

std::uint64_t resident_bytes() { return kib_line("/proc/self/status", "VmRSS:"); }
std::uint64_t peak_resident_bytes() { return kib_line("/proc/self/status", "VmHWM:"); }
std::uint64_t available_memory_bytes() {
  const std::uint64_t machine = kib_line("/proc/meminfo", "MemAvailable:");
  const std::optional<std::uint64_t> group = cgroup_available_bytes(process_cgroups());
  return group && (machine == 0 || *group < machine) ? *group : machine;
}

std::optional<std::uint64_t> cgroup_available_bytes(const std::string& groups, const std::filesystem::path& root) {
  std::optional<std::uint64_t> least;
  for_each_cgroup(groups, "memory", root, [&](const std::filesystem::path& folder, int version) {
    const auto left = left_of_group(folder, version == 1 ? kVersion1 : kVersion2);
    if (left && (!least || *left < *least)) least = left;
  });
  return least;
}

bool restart_peak() {
  std::ofstream file("/proc/self/clear_refs");
  file << 5 << std::flush;  // proc(5): resets VmHWM
  return file.good();
}

void return_freed_memory() { ::malloc_trim(0); }

}  // namespace slipway
