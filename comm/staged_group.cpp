#include "comm/staged_group.hpp"

#include "src/core/error.hpp"

namespace slipway {
namespace {

class StagedGroup final : public Group {
 public:
  StagedGroup(Group& host, const KernelTable& kernels) : host_(host), kernels_(kernels) {}

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  const char* name() const override { return "staged"; }
  int world_rank(int member) const override { return host_.world_rank(member); }
  MemorySpace& space() const override { return *kernels_.memory; }

  void barrier() override { host_.barrier(); }

  void broadcast(void* bytes, std::size_t count, int root) override {
    if (size() == 1) return;
    std::byte* staged = room(leaving_, count);
    if (rank() == root) space().read(staged, bytes, count);
    host_.broadcast(staged, count, root);
    if (rank() != root) space().write(bytes, staged, count);
  }

  void all_gather(const void* mine, std::size_t count, void* all) override {
    if (size() == 1) {
      if (mine != all) space().copy(all, mine, count);
      return;
    }
    std::byte* staged = room(arriving_, count * static_cast<std::size_t>(size()));
    std::byte* own = staged + static_cast<std::size_t>(rank()) * count;
    space().read(own, mine, count);
    host_.all_gather(own, count, staged);
    space().write(all, staged, count * static_cast<std::size_t>(size()));
  }

  void exchange(int peer, const void* send, void* receive, std::size_t count) override {
    std::byte *leaves = room(leaving_, count), *arrives = room(arriving_, count);
    space().read(leaves, send, count);
    host_.exchange(peer, leaves, arrives, count);
    space().write(receive, arrives, count);
  }

 protected:
  void add(float* x, const float* y, std::size_t count) override { kernels_.add(stream_, {{y, count}, {x, count}}); }

 private:
  static std::byte* room(Buffer<std::byte>& buffer, std::size_t count) {
    buffer.fit(count);
    return buffer.data();
  }

  Group& host_;
  const KernelTable& kernels_;
  Stream stream_;
  Buffer<std::byte> leaving_, arriving_;  // on the host
};

}  // namespace

std::unique_ptr<Group> make_staged_group(Group& host, const KernelTable& kernels) {
  return std::make_unique<StagedGroup>(host, kernels);
}

}  // namespace slipway
