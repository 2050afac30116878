#include "src/core/memory.hpp"

#include <malloc.h>

#include <algorithm>
#include <fstream>
#include <limits>

#include "src/core/control_groups.hpp"

namespace slipway {
namespace {

/// The value of `key` in a file of lines `key: number kB`, in bytes.
std::uint64_t read_kib_field(const char* path, const std::string& key) {
  std::ifstream lines(path);
  for (std::string key_word; lines >> key_word; lines.ignore(std::numeric_limits<std::streamsize>::max(), '\n')) {
    std::uint64_t kib = 0;
    if (key_word == key && lines >> kib) return kib * 1024;
  }
  return 0;
}

/// The files of a control group, by version.
struct CgroupFiles {
  const char *limit, *usage, *inactive, *active;  // the last two: lines of memory.stat
};
constexpr CgroupFiles kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
                                "total_active_file"},
    kVersion2{"memory.max", "memory.current", "inactive_file", "active_file"};

/// The bytes available under a group's limit; nullopt where it has none (`max`, or no such folder).
std::optional<std::uint64_t> available_in_cgroup(const std::filesystem::path& group, const CgroupFiles& names) {
  std::uint64_t limit = 0, usage = 0, page_cache = 0;
  if (!(std::ifstream(group / names.limit) >> limit) || !(std::ifstream(group / names.usage) >> usage))
    return std::nullopt;
  std::ifstream stat(group / "memory.stat");
  std::uint64_t bytes = 0;
  for (std::string key; stat >> key >> bytes;)
    if (key == names.inactive || key == names.active) page_cache += bytes;
  usage -= std::min(usage, page_cache);
  return limit - std::min(limit, usage);
}

}  // namespace

std::uint64_t resident_bytes() { return read_kib_field("/proc/self/status", "VmRSS:"); }
std::uint64_t peak_resident_bytes() { return read_kib_field("/proc/self/status", "VmHWM:"); }
std::uint64_t available_memory_bytes() {
  const std::uint64_t machine_bytes = read_kib_field("/proc/meminfo", "MemAvailable:");
  const std::optional<std::uint64_t> group_bytes = cgroup_available_bytes(process_cgroups());
  return group_bytes && (machine_bytes == 0 || *group_bytes < machine_bytes) ? *group_bytes : machine_bytes;
}

std::optional<std::uint64_t> cgroup_available_bytes(const std::string& groups, const std::filesystem::path& root) {
  std::optional<std::uint64_t> min_available;
  for_each_cgroup(groups, "memory", root, [&](const std::filesystem::path& folder, int version) {
    const auto available = available_in_cgroup(folder, version == 1 ? kVersion1 : kVersion2);
    if (available && (!min_available || *available < *min_available)) min_available = available;
  });
  return min_available;
}

bool reset_peak_resident() {
  std::ofstream file("/proc/self/clear_refs");
  file << 5 << std::flush;  // proc(5): resets VmHWM
  return file.good();
}

void release_free_memory() { ::malloc_trim(0); }

}  // namespace slipway
