// `train.profile`: where the time of a few steps went, as a table and as a trace that Perfetto opens.
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "comm/group.hpp"
#include "kernels/instrument/device_peaks.hpp"
#include "src/core/json.hpp"
#include "src/core/profile.hpp"

namespace slipway {

/// Time by name over `steps` steps of the thread that trains: each span's own time, so that rows add up to the steps.
/// What lies between steps (validation, samples) is left out; Muon's "orthogonalize" is one row with its products.
///
/// Each row: name, calls, seconds, share (of the steps' time), flops, bytes, and limit_share, the least time that the
/// counted operations or bytes need on this machine over the time they took.
Json profile_table(std::span<const profile::Span> spans, int steps, const DevicePeaks& peaks);
std::string to_text(const Json& table);

/// Chrome's trace events of one rank: complete events ("ph": "X") in microseconds, one track a thread.
std::string trace_events(std::span<const profile::Span> spans, int rank);

/// Writes RUN/profile/trace.json (all ranks) and table.json (rank 0's), and returns the table as text.
/// Ranks    collective. Errors: Fault::kStorage.
std::string write_profile(const std::filesystem::path& run, std::span<const profile::Span> spans, int steps,
                          const DevicePeaks& peaks, Group& world_group);

}  // namespace slipway
