// make_checkpoint CHECKPOINTS STEP DATA TENSOR [CHANGE]: saves tensors whose values a script can compute by itself.
//
// Element i of the n-th kind (value, adam_m, adam_v) of the t-th tensor is i / 8 + 1000 n + 10000 t; every division
// among ranks is seeded. CHANGE adds 0.5 to element 17 of adam_m of blk.0.ffn_down.weight.
#include <iostream>

#include "tests/support/checkpoint_state.hpp"

int main(int argc, char** argv) {
  using namespace slipway;
  try {
    require(argc >= 5, "usage: make_checkpoint CHECKPOINTS STEP DATA TENSOR [CHANGE]");
    TensorState state;
    state.add("blk.0.attn_norm.weight", {37}, 0);
    state.add("blk.0.ffn_down.weight", {29, 13}, 0);
    state.add("token_embd.weight", {101, 13}, 0);
    for (auto& [key, entry] : state.entries) {
      const int kind = key.first == "value" ? 0 : key.first == "adam_m" ? 1 : 2;
      const int tensor = key.second == "blk.0.attn_norm.weight" ? 0 : key.second == "blk.0.ffn_down.weight" ? 1 : 2;
      for (std::size_t i = 0; i < entry.numbers.size(); ++i)
        entry.numbers[i] = static_cast<float>(i) / 8 + static_cast<float>(1000 * kind + 10000 * tensor);
    }
    if (argc > 5) state.entries[{"adam_m", "blk.0.ffn_down.weight"}].numbers[17] += 0.5f;
    CheckpointInfo info = make_small_info(std::stol(argv[2]));
    info.layout = {std::stoi(argv[3]), std::stoi(argv[4]), 1};
    std::cout << save(argv[1], info, shard_state(state, info.layout.data, info.layout.tensor, 11)).string() << '\n';
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 9;
  }
}
