#include "io/model/file_names.hpp"

namespace slipway {
namespace {

constexpr TensorNames kLlamaNonLayerTensors[] = {{"token_embd.weight", "model.embed_tokens.weight"},
                                                 {"output_norm.weight", "model.norm.weight"},
                                                 {"output.weight", "lm_head.weight"}};
constexpr TensorNames kLlamaLayerTensors[] = {
    {"attn_norm.weight", "input_layernorm.weight"},    {"attn_q.weight", "self_attn.q_proj.weight"},
    {"attn_k.weight", "self_attn.k_proj.weight"},      {"attn_v.weight", "self_attn.v_proj.weight"},
    {"attn_q.bias", "self_attn.q_proj.bias"},          {"attn_k.bias", "self_attn.k_proj.bias"},
    {"attn_v.bias", "self_attn.v_proj.bias"},          {"attn_q_norm.weight", "self_attn.q_norm.weight"},
    {"attn_k_norm.weight", "self_attn.k_norm.weight"}, {"attn_output.weight", "self_attn.o_proj.weight"},
    {"attn_output.bias", "self_attn.o_proj.bias"},     {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"ffn_gate.weight", "mlp.gate_proj.weight"},       {"ffn_up.weight", "mlp.up_proj.weight"},
    {"ffn_down.weight", "mlp.down_proj.weight"}};
constexpr TensorNames kGpt2NonLayerTensors[] = {{"token_embd.weight", "transformer.wte.weight"},
                                                {"position_embd.weight", "transformer.wpe.weight"},
                                                {"output_norm.weight", "transformer.ln_f.weight"},
                                                {"output_norm.bias", "transformer.ln_f.bias"},
                                                {"output.weight", "lm_head.weight"}};
constexpr TensorNames kGpt2LayerTensors[] = {{"attn_norm.weight", "ln_1.weight"},
                                             {"attn_norm.bias", "ln_1.bias"},
                                             {"attn_qkv.weight", "attn.c_attn.weight", true},
                                             {"attn_qkv.bias", "attn.c_attn.bias"},
                                             {"attn_output.weight", "attn.c_proj.weight", true},
                                             {"attn_output.bias", "attn.c_proj.bias"},
                                             {"ffn_norm.weight", "ln_2.weight"},
                                             {"ffn_norm.bias", "ln_2.bias"},
                                             {"ffn_up.weight", "mlp.c_fc.weight", true},
                                             {"ffn_up.bias", "mlp.c_fc.bias"},
                                             {"ffn_down.weight", "mlp.c_proj.weight", true},
                                             {"ffn_down.bias", "mlp.c_proj.bias"}};

constexpr std::string_view kRopeFrequencyBuffers[] = {"self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"};
constexpr std::string_view kMaskBuffers[] = {"attn.bias", "attn.masked_bias"};
constexpr AttributeMapping kGpt2AttributeMap[] = {{"num_hidden_layers", "n_layer"},
                                                  {"hidden_size", "n_embd"},
                                                  {"num_attention_heads", "n_head"},
                                                  {"intermediate_size", "n_inner"},
                                                  {"max_position_embeddings", "n_positions"},
                                                  {"rms_norm_eps", "layer_norm_epsilon"},
                                                  {"num_key_value_heads", ""},
                                                  {"head_dim", ""},
                                                  {"rope_theta", ""}};

}  // namespace

const FileNames kLlamaFileNames{.non_layer_tensors = kLlamaNonLayerTensors,
                                .layer_tensors = kLlamaLayerTensors,
                                .hugging_face_layer_prefix = "model.layers.",
                                .ignored_buffers = kRopeFrequencyBuffers};
const FileNames kGpt2FileNames{.non_layer_tensors = kGpt2NonLayerTensors,
                               .layer_tensors = kGpt2LayerTensors,
                               .hugging_face_layer_prefix = "transformer.h.",
                               .base_model_prefix = "transformer.",
                               .ignored_buffers = kMaskBuffers,
                               .attribute_map = kGpt2AttributeMap};

}  // namespace slipway
