#include "src/core/memory.hpp"

#include <malloc.h>

#include <fstream>
#include <limits>
#include <string>

namespace slipway {
namespace {

/// The number behind `key` in a file of lines `key: number kB`, in bytes.
std::uint64_t kib_line(const char* path, const std::string& key) {
  std::ifstream lines(path);
  for (std::string word; lines >> word; lines.ignore(std::numeric_limits<std::streamsize>::max(), '\n')) {
    std::uint64_t kib = 0;
    if (word == key && lines >> kib) return kib * 1024;
  }
  return 0;
}

}  // namespace

std::uint64_t resident_bytes() { return kib_line("/proc/self/status", "VmRSS:"); }
std::uint64_t peak_resident_bytes() { return kib_line("/proc/self/status", "VmHWM:"); }
std::uint64_t available_memory_bytes() { return kib_line("/proc/meminfo", "MemAvailable:"); }

bool restart_peak() {
  std::ofstream file("/proc/self/clear_refs");
  file << 5 << std::flush;  // proc(5): resets VmHWM
  return file.good();
}

void return_freed_memory() { ::malloc_trim(0); }

}  // namespace slipway
