#include "src/core/clock.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>

namespace slipway {
namespace {

const double kStart_s = now_s();

template <class... Values>
std::string format(const char* pattern, Values... values) {
  char text[64];
  std::snprintf(text, sizeof text, pattern, values...);
  return text;
}

}  // namespace

double seconds_since_start() { return now_s() - kStart_s; }

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::string human_time(double seconds) {
  constexpr double kMax_s = 3.6e15;  // a trillion hours: fits a long
  const long rounded = std::lround(std::clamp(seconds, 0.0, kMax_s));
  if (rounded < 60) return format("%lds", rounded);
  if (rounded < 3600) return format("%ldm%02lds", rounded / 60, rounded % 60);
  return format("%ldh%02ldm", rounded / 3600, rounded / 60 % 60);
}

std::string human_count(double count) {
  if (count < 1e3) return format("%.0f", count);
  if (count < 1e6) return format("%.1fk", count / 1e3);
  if (count < 1e9) return format("%.1fM", count / 1e6);
  return format("%.2fB", count / 1e9);
}

std::string human_bytes(double bytes) {
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  for (; bytes >= 1024 && unit < 4; ++unit) bytes /= 1024;
  return format(unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

}  // namespace slipway
