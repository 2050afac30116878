#include "src/train/findings.hpp"

#include <bit>

namespace slipway {

Findings::Findings(int nats, MemorySpace& space) : space_(space), running_(1, space) {
  for (Set& one : sets_) {
    one.there = Buffer<double>(kFixed + static_cast<std::size_t>(nats), space);
    one.here = Buffer<double>(one.there.size(), space.staging());
  }
  reset();
}

void Findings::send() {
  require(sent_ - read_ < 2, "Findings::send: two steps are on their way already");
  Set& one = set();
  one.come = space_.fetch(one.here.data(), one.there.data(), one.there.size() * sizeof(double));
  ++sent_;
}

Found Findings::read() {
  require(read_ < sent_, "Findings::read: no step was sent");
  const Set& one = sets_[read_++ % 2];
  space_.wait_for(one.come);
  const std::uint64_t factor = std::bit_cast<std::uint64_t>(one.here[1]);
  return {.norm = one.here[0],
          .factor = std::bit_cast<float>(static_cast<std::uint32_t>(factor)),
          .first_bad = std::bit_cast<std::int64_t>(one.here[2]),
          .nats = one.here.span().subspan(kFixed)};
}

void Findings::reset() {
  const float one = 1.0f;
  space_.write(running_.data(), &one, sizeof one);
  read_ = sent_;
}

}  // namespace slipway
