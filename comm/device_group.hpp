// Base class of groups with buffers in device memory, for any transport.
#pragma once

#include "comm/group.hpp"
#include "kernels/backend/backend.hpp"

namespace slipway {

/// The ranks of `host`, which must outlive this group, for buffers in `backend.memory`; reductions run on `backend`.
class DeviceGroup : public Group {
 public:
  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  int world_rank(int member) const override { return host_.world_rank(member); }
  MemorySpace& space() const override { return *backend_.memory; }

 protected:
  DeviceGroup(Group& host, const Backend& backend) : Group(host.reduction()), host_(host), backend_(backend) {}
  void add(float* x, const float* y, std::size_t count) override { backend_.add(stream_, {{y, count}, {x, count}}); }
  Group& host() { return host_; }
  void set_add_stream(const Stream& stream) { stream_ = stream; }

 private:
  Group& host_;
  const Backend& backend_;
  Stream stream_;
};

}  // namespace slipway
