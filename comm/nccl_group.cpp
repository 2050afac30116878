#include "comm/nccl_group.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "comm/device_group.hpp"
#include "comm/watchdog.hpp"

namespace slipway {
namespace {

int this_world_rank = 0;                     // world rank
std::optional<CollectiveScope> device_wait;  // while the host waits for the device

void on_wait_begin() { device_wait.emplace("the GPU's collectives", this_world_rank); }
void on_wait_end() { device_wait.reset(); }

class NcclGroup final : public DeviceGroup {
 public:
  NcclGroup(Group& host, const Backend& backend) : DeviceGroup(host, backend), collectives_(*backend.collectives) {
    DeviceCollectives::UniqueId id{};
    if (rank() == 0) id = collectives_.get_unique_id();
    host.broadcast(id.data(), id.size(), 0);
    const CollectiveScope call("ncclCommInitRank", world_rank(rank()));
    comm_ = collectives_.join(id, rank(), size());
    this_world_rank = world_rank(rank());
    collectives_.on_wait(on_wait_begin, on_wait_end);
  }
  ~NcclGroup() override { collectives_.leave(comm_); }

  const char* name() const override { return collectives_.name; }
  bool is_async() const override { return true; }

  void begin_overlap() override {
    collectives_.begin_overlap();
    set_add_stream(collectives_.side_stream());
  }
  void end_overlap() override {
    collectives_.end_overlap();
    set_add_stream({});
  }

  void barrier() override {
    space().synchronize();
    host().barrier();
  }
  void broadcast(void* bytes, std::size_t count, int root) override {
    const CollectiveScope call("broadcast", world_rank(rank()), root == rank() ? -1 : world_rank(root));
    if (count > 0) collectives_.broadcast(comm_, bytes, count, root);
  }
  void all_gather(const void* send, std::size_t count, void* receive) override {
    const CollectiveScope call("all_gather", world_rank(rank()));
    if (count > 0) collectives_.all_gather(comm_, send, count, receive);
  }
  void send_recv(int peer, const void* send, void* receive, std::size_t count) override {
    const CollectiveScope call("send_recv", world_rank(rank()), world_rank(peer));
    if (count > 0) collectives_.send_recv(comm_, peer, send, receive, count);
  }

 protected:
  void copy(void* to, const void* from, std::size_t bytes) override { collectives_.copy(to, from, bytes); }
  bool library_all_reduce(std::span<float> x) override {
    if (reduction() != Reduction::kLibrary) return false;
    if (!x.empty()) collectives_.all_reduce_sum(comm_, x.data(), x.size());
    return true;
  }

 private:
  const DeviceCollectives& collectives_;
  void* comm_ = nullptr;
};

}  // namespace

bool nccl_available(Group& host, const Backend& backend) {
  if (host.size() == 1) return false;
  std::vector<std::string> identities =
      host.all_gather_text(backend.collectives == nullptr ? "" : backend.collectives->gpu_uuid());
  std::ranges::sort(identities);
  return !identities.front().empty() &&
         std::ranges::adjacent_find(identities) == identities.end();  // empty: a host without the library
}

std::unique_ptr<Group> make_nccl_group(Group& host, const Backend& backend) {
  return std::make_unique<NcclGroup>(host, backend);
}

}  // namespace slipway
