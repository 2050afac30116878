// Clocks: seconds for measuring, text for people.
#pragma once

#include <chrono>
#include <string>

namespace slipway {

/// Seconds of the monotonic clock.
inline double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double seconds_since_start();            ///< since this process loaded the program
std::string utc_now();                   ///< "2026-11-22T10:39:00Z"
std::string human_time(double seconds);  ///< "3m05s", "2h10m"
std::string human_count(double count);   ///< "12.3k", "7.9M", "1.2B"
std::string human_bytes(double bytes);   ///< "3.2 MiB"

}  // namespace slipway
