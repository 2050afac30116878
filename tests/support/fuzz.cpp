#include "tests/support/fuzz.hpp"

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <thread>

#include "src/core/file.hpp"
#include "src/core/json.hpp"

#if defined(__SANITIZE_ADDRESS__)
// An allocation larger than any of these files needs is an error; zlib and zstd get null instead.
extern "C" const char* __asan_default_options() {
  return "detect_leaks=0:max_allocation_size_mb=512:allocator_may_return_null=1:detect_stack_use_after_return=0";
}
extern "C" void __sanitizer_set_death_callback(void (*call)());
extern "C" void __sanitizer_set_report_fd(void* descriptor);
extern "C" const char* __ubsan_default_options() { return "print_stacktrace=1"; }
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

namespace slipway::test {
namespace {

namespace fs = std::filesystem;

constexpr double kMaxCpuS = 10;    // of one reader
constexpr double kMaxWallS = 60;   // of a reader that sleeps; long, since the machine may be busy
constexpr int kDefaultCases = 60;  // under ten seconds for all formats, with sanitizers

int real_stderr() {
  static const int descriptor = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
  return descriptor;
}

double seconds(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// The case that is running, for the handlers of crashes and hangs.
struct CurrentCase {
  std::array<char, 512> text{};
  std::atomic<bool> running{false};
  std::atomic<double> began_cpu{0}, began_wall{0};
};
CurrentCase& current_case() {
  static CurrentCase instance;
  return instance;
}

void print_current_case() {
  if (!current_case().running) return;
  const auto& text = current_case().text;
  if (::write(real_stderr(), text.data(), ::strnlen(text.data(), text.size())) < 0) return;
}

extern "C" void on_fatal_signal(int signal) {
  print_current_case();
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

/// Ends the process with the case's name when a reader hangs. A thread, since no signal may interrupt oneDNN.
void watch_for_hangs() {
  while (true) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    if (!current_case().running) continue;
    const bool hangs = seconds(CLOCK_PROCESS_CPUTIME_ID) - current_case().began_cpu > kMaxCpuS ||
                       seconds(CLOCK_MONOTONIC) - current_case().began_wall > kMaxWallS;
    if (!hangs) continue;
    constexpr std::string_view kHangs = "HANGS: ";
    if (::write(real_stderr(), kHangs.data(), kHangs.size()) > 0) print_current_case();
    std::raise(SIGABRT);
  }
}

void install_handlers() {
  static const bool once = [] {
    real_stderr();
    ::mallopt(M_MMAP_THRESHOLD, 1 << 18);  // freed memory is returned to the system, so that the peak is per reader
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_set_report_fd(reinterpret_cast<void*>(static_cast<std::intptr_t>(real_stderr())));
    __sanitizer_set_death_callback(print_current_case);
#else
    static std::array<char, 1 << 16> stack;  // a handler cannot run on a stack that has overflowed
    const stack_t alternate{.ss_sp = stack.data(), .ss_flags = 0, .ss_size = stack.size()};
    ::sigaltstack(&alternate, nullptr);
    struct sigaction action {};
    action.sa_handler = on_fatal_signal;
    action.sa_flags = SA_ONSTACK;
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) ::sigaction(signal, &action, nullptr);
#endif
    ::signal(SIGABRT, on_fatal_signal);
    std::thread(watch_for_hangs).detach();
    return true;
  }();
  static_cast<void>(once);
}

/// Discards standard output and error while it exists.
class SilenceOutput {
 public:
  SilenceOutput() {
    std::cout.flush(), std::fflush(stdout), std::fflush(stderr);
    const int null_fd = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    for (const int descriptor : {STDOUT_FILENO, STDERR_FILENO}) {
      saved_fds_[descriptor] = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
      ::dup2(null_fd, descriptor);
    }
    ::close(null_fd);
  }
  ~SilenceOutput() {
    std::cout.flush(), std::fflush(stdout), std::fflush(stderr);
    for (const auto& [descriptor, saved_fd] : saved_fds_) ::dup2(saved_fd, descriptor), ::close(saved_fd);
  }
  SilenceOutput(const SilenceOutput&) = delete;
  SilenceOutput& operator=(const SilenceOutput&) = delete;

 private:
  std::map<int, int> saved_fds_;
};

std::uint64_t status_bytes(const char* key) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word != key) continue;
    std::uint64_t kib = 0;
    status >> kib;
    return kib * 1024;
  }
  return 0;
}

/// Peak of resident bytes, minus those at construction. 0 where the system does not provide it.
class PeakMemory {
 public:
  PeakMemory() {
    if (kSanitized) return;  // shadow memory and quarantine would be counted
    ::malloc_trim(0);
    std::ofstream("/proc/self/clear_refs") << "5";
    rss_baseline_ = status_bytes("VmRSS:");
  }
  std::uint64_t bytes() const {
    if (kSanitized || rss_baseline_ == 0) return 0;
    const std::uint64_t peak_bytes = status_bytes("VmHWM:");
    return peak_bytes > rss_baseline_ ? peak_bytes - rss_baseline_ : 0;
  }

 private:
  std::uint64_t rss_baseline_ = 0;
};

/// Empty when `read` returned or threw an allowed Error, else a description of the problem.
std::string check_outcome(const Format& format, const std::function<void()>& read,
                          std::map<std::string, int>& outcomes) {
  try {
    read();
    ++outcomes["read"];
    return "";
  } catch (const Error& error) {
    ++outcomes[std::string(name(error.fault()))];
    const std::string text = error.what();
    const bool is_allowed = error.fault() == Fault::kConfig || error.fault() == Fault::kData ||
                            error.fault() == Fault::kStorage || error.fault() == Fault::kNumeric ||
                            format.allowed_faults.contains(error.fault());
    return is_allowed ? "" : join("fault ", name(error.fault()), ": ", text.substr(0, 400));
  } catch (const std::exception& other) {
    return join("threw what is no Error: ", std::string(other.what()).substr(0, 400));
  }
}

int env_int(const char* key, int otherwise) {
  const char* text = std::getenv(key);
  return text == nullptr ? otherwise : std::atoi(text);
}

fs::path scratch_path() {
  const fs::path memory = "/dev/shm";  // no disk: thousands of files are written
  const fs::path base = ::access(memory.c_str(), W_OK) == 0 ? memory : fs::temp_directory_path();
  return base / join("slipway-mutations-", ::getpid());
}

struct ScratchFolder {
  fs::path path = scratch_path();
  ~ScratchFolder() {
    std::error_code ignored;
    if (std::getenv("SLIPWAY_MUTATION_KEEP") == nullptr) fs::remove_all(path, ignored);
  }
};

}  // namespace

Files read_files(const fs::path& folder) {
  Files files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file())
      files[fs::relative(entry.path(), folder).string()] = read_file(entry.path(), Fault::kStorage);
  return files;
}

void write_files(const fs::path& folder, const Files& files) {
  fs::remove_all(folder);
  fs::create_directories(folder);
  for (const auto& [name, bytes] : files) {
    fs::create_directories((folder / name).parent_path());
    std::ofstream(folder / name, std::ios::binary) << bytes;
  }
}

/// Checks that unmutated files are read, since otherwise the mutations would test nothing.
void expect_valid_read(const Format& format, const fs::path& folder) {
  constexpr int kMaxSets = 12;  // more than any format has
  for (int set = 0; set < kMaxSets / format.case_divisor; ++set) {
    FuzzRng rng(static_cast<std::uint64_t>(set), format.name.c_str());
    const Files files = format.make_valid(rng);
    for (const Reader& reader : format.readers) {
      write_files(folder, files);
      const SilenceOutput silence;
      EXPECT_NO_THROW(reader.read(folder)) << format.name << " as it was made, " << reader.name;
    }
  }
}

void run_mutations(const Format& format) {
  install_handlers();
  const int cases = std::max(1, env_int("SLIPWAY_MUTATIONS", kDefaultCases) / format.case_divisor),
            only_seed = env_int("SLIPWAY_MUTATION", -1),
            first = only_seed >= 0 ? only_seed : env_int("SLIPWAY_MUTATIONS_FROM", 0),
            end = only_seed >= 0 ? only_seed + 1 : first + cases;
  const ScratchFolder scratch;
  const std::string test = testing::UnitTest::GetInstance()->current_test_info()->name();
  const double begin_s = seconds(CLOCK_MONOTONIC);
  std::map<std::string, std::map<std::string, int>> outcomes;  // by reader
  double max_per_byte = 0;
  std::uint64_t max_bytes = 0;
  std::string max_case;
  int failures = 0;
  expect_valid_read(format, scratch.path);
  for (int seed = first; seed < end; ++seed) {
    FuzzRng rng(static_cast<std::uint64_t>(seed), format.name.c_str());
    Files files = format.make_valid(rng);
    for (std::size_t num_mutations = rng.one_in(3) ? 1 + rng.below(3) : 1; num_mutations > 0; --num_mutations)
      format.mutate(files, rng);
    std::uint64_t bytes = format.reader_written_bytes;
    for (const auto& [name, content] : files) bytes += content.size();
    for (const Reader& reader : format.readers) {
      write_files(scratch.path, files);
      const std::string case_name = join(format.name, ", seed ", seed, ", ", reader.name),
                        rerun_command =
                            join("run it alone: SLIPWAY_MUTATION=", seed,
                                 " SLIPWAY_MUTATION_KEEP=1 test_mutated_files --gtest_filter='*.", test, "'");
      std::snprintf(current_case().text.data(), current_case().text.size(), "\nwhile reading %s\n%s\n",
                    case_name.c_str(), rerun_command.c_str());
      current_case().began_cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
      current_case().began_wall = seconds(CLOCK_MONOTONIC);
      current_case().running = true;
      std::string problem;
      std::uint64_t peak = 0;
      {
        const SilenceOutput silence;
        const PeakMemory peak_of_reader;
        problem = check_outcome(
            format, [&] { reader.read(scratch.path); }, outcomes[reader.name]);
        peak = peak_of_reader.bytes();
      }
      current_case().running = false;
      if (peak > kFixedBytes) {
        const double per_byte = static_cast<double>(peak - kFixedBytes) / static_cast<double>(bytes + 1);
        if (per_byte > max_per_byte) max_per_byte = per_byte, max_case = case_name;
      }
      max_bytes = std::max(max_bytes, peak);
      const std::uint64_t fixed_bytes = kFixedBytes + format.declared_bytes;
      if (problem.empty() && peak > fixed_bytes + kBytesPerByte * bytes)
        problem = join("took ", peak >> 20, " MiB for files of ", bytes, " bytes, at most ", kBytesPerByte,
                       " times that and ", fixed_bytes >> 20, " MiB are allowed");
      if (problem.empty()) continue;
      ADD_FAILURE() << case_name << ": " << problem << "\n" << rerun_command;
      if (++failures >= 20) return;
    }
  }
  std::string table =
      join(format.name, ": ", end - first, " cases in ", static_cast<int>(seconds(CLOCK_MONOTONIC) - begin_s), " s;");
  for (const auto& [reader, counts] : outcomes) {
    table += join(" ", reader);
    for (const auto& [outcome, count] : counts) table += join(" ", outcome, " ", count);
    table += ";";
  }
  if (!kSanitized)
    table += join(" at most ", max_bytes >> 20, " MiB, ", max_per_byte, " bytes a byte beyond ", kFixedBytes >> 20,
                  " MiB", max_case.empty() ? "" : join(" (", max_case, ")"));
  std::cout << table << std::endl;
}

}  // namespace slipway::test
