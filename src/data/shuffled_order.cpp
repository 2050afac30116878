#include "src/data/shuffled_order.hpp"

#include "src/core/error.hpp"
#include "src/core/random.hpp"

namespace slipway {

ShuffledOrder::ShuffledOrder(std::int64_t count, std::uint64_t seed, const char* name)
    : count_(static_cast<std::uint64_t>(count)), seed_(seed), stream_(stream_of(name)) {
  require(count >= 0, "ShuffledOrder: a negative count");
}

std::int64_t ShuffledOrder::at(std::uint64_t epoch, std::int64_t position) const {
  require(position >= 0 && position < count(), "ShuffledOrder::at: a position outside the epoch");
  return static_cast<std::int64_t>(permute(static_cast<std::uint64_t>(position), count_, seed_, stream_ + epoch));
}

}  // namespace slipway
