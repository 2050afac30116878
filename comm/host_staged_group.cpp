#include "comm/host_staged_group.hpp"

#include <algorithm>

#include "comm/device_group.hpp"

namespace slipway {
namespace {

class HostStagedGroup final : public DeviceGroup {
 public:
  HostStagedGroup(Group& host, const Backend& backend) : DeviceGroup(host, backend) {}

  const char* name() const override { return "staged"; }

  void barrier() override { host().barrier(); }

  void broadcast(void* bytes, std::size_t count, int root) override {
    if (size() == 1) return;
    in_pieces(count, [&](std::size_t first, std::size_t part) {
      std::byte *on_device = static_cast<std::byte*>(bytes) + first, *staged = grow(send_buffer_, part);
      if (rank() == root) space().read(staged, on_device, part);
      host().broadcast(staged, part, root);
      if (rank() != root) space().write(on_device, staged, part);
    });
  }

  void all_gather(const void* mine, std::size_t count, void* all) override {
    if (size() == 1) {
      if (mine != all) space().copy(all, mine, count);
      return;
    }
    std::byte* staged = grow(receive_buffer_, count * static_cast<std::size_t>(size()));
    std::byte* own = staged + static_cast<std::size_t>(rank()) * count;
    space().read(own, mine, count);
    host().all_gather(own, count, staged);
    space().write(all, staged, count * static_cast<std::size_t>(size()));
  }

  void send_recv(int peer, const void* send, void* receive, std::size_t count) override {
    in_pieces(count, [&](std::size_t first, std::size_t part) {
      std::byte *staged_send = grow(send_buffer_, part), *staged_receive = grow(receive_buffer_, part);
      space().read(staged_send, static_cast<const std::byte*>(send) + first, part);
      host().send_recv(peer, staged_send, staged_receive, part);
      space().write(static_cast<std::byte*>(receive) + first, staged_receive, part);
    });
  }

 private:
  /// Splits a long message into pieces, so that its staging buffers stay small.
  template <class Part>
  static void in_pieces(std::size_t count, const Part& part) {
    constexpr std::size_t kPiece = std::size_t{32} << 20;
    for (std::size_t first = 0; first < count; first += kPiece) part(first, std::min(kPiece, count - first));
  }
  static std::byte* grow(Buffer<std::byte>& buffer, std::size_t count) {
    buffer.reserve(count);
    return buffer.data();
  }

  Buffer<std::byte> send_buffer_, receive_buffer_;  // in host memory
};

}  // namespace

std::unique_ptr<Group> make_staged_group(Group& host, const Backend& backend) {
  return std::make_unique<HostStagedGroup>(host, backend);
}

}  // namespace slipway
