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
    for_each_chunk(count, [&](std::size_t first, std::size_t chunk_bytes) {
      std::byte *on_device = static_cast<std::byte*>(bytes) + first, *staged = grow(send_buffer_, chunk_bytes);
      if (rank() == root) space().read(staged, on_device, chunk_bytes);
      host().broadcast(staged, chunk_bytes, root);
      if (rank() != root) space().write(on_device, staged, chunk_bytes);
    });
  }

  void all_gather(const void* send, std::size_t count, void* receive) override {
    if (size() == 1) {
      if (send != receive) space().copy(receive, send, count);
      return;
    }
    std::byte* staged = grow(receive_buffer_, count * static_cast<std::size_t>(size()));
    std::byte* local_chunk = staged + static_cast<std::size_t>(rank()) * count;
    space().read(local_chunk, send, count);
    host().all_gather(local_chunk, count, staged);
    space().write(receive, staged, count * static_cast<std::size_t>(size()));
  }

  void send_recv(int peer, const void* send, void* receive, std::size_t count) override {
    for_each_chunk(count, [&](std::size_t first, std::size_t chunk_bytes) {
      std::byte *staged_send = grow(send_buffer_, chunk_bytes), *staged_receive = grow(receive_buffer_, chunk_bytes);
      space().read(staged_send, static_cast<const std::byte*>(send) + first, chunk_bytes);
      host().send_recv(peer, staged_send, staged_receive, chunk_bytes);
      space().write(static_cast<std::byte*>(receive) + first, staged_receive, chunk_bytes);
    });
  }

 private:
  /// Splits a long message into pieces, so that its staging buffers stay small.
  template <class Call>
  static void for_each_chunk(std::size_t count, const Call& call) {
    constexpr std::size_t kChunkBytes = std::size_t{32} << 20;
    for (std::size_t first = 0; first < count; first += kChunkBytes) call(first, std::min(kChunkBytes, count - first));
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
