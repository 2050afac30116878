#include "tests/support/kernels_subjects.hpp"

namespace slipway::testing_support {

std::span<const KernelTable* const> tables_under_test() { return all_tables(); }
Stream stream_under_test() { return {}; }

}  // namespace slipway::testing_support
