"""The forward pass of llama, qwen2, qwen3 and gpt2 in numpy f64, from the papers' formulas: the oracle of every logit.

Weights come by Hugging Face's names from a folder that was exported (f32, f16 or bf16), read with the `safetensors`
package, so nothing here knows how we write a GGUF. Rows of q and k are in the order of halves.

    model = ReferenceModel.load("exported-folder")
    logits = model.logits([1, 2, 3])          # [tokens, vocabulary], f64
"""

import json
import pathlib

import numpy as np
from safetensors.numpy import load_file


def silu(x):
    return x / (1.0 + np.exp(-x))


def gelu(x):
    """GPT-2's approximation by tanh."""
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def attend(q, k, v):
    """Causal attention: q, k, v [T, heads, width]; returns [T, heads * width]."""
    tokens, _, width = q.shape
    scores = np.einsum("qhe,khe->hqk", q, k) / np.sqrt(width)
    scores = np.where(np.tril(np.ones((tokens, tokens), bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("hqk,khe->qhe", weights, v).reshape(tokens, -1)


class ReferenceModel:
    def __init__(self, config, weights):
        self.config = config
        self.weights = {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}
        self.heads = config["num_attention_heads"]
        self.kv_heads = config["num_key_value_heads"]
        self.head_width = config["head_dim"]
        self.eps = config["rms_norm_eps"]

    @classmethod
    def load(cls, folder):
        folder = pathlib.Path(folder)
        config = json.loads((folder / "config.json").read_text())
        return (Gpt2 if config["model_type"] == "gpt2" else cls)(config, load_file(folder / "model.safetensors"))

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.weights[name]

    def linear(self, x, name):
        y = x @ self.weights[name + ".weight"].T
        bias = self.weights.get(name + ".bias")
        return y if bias is None else y + bias

    def apply_rope(self, x):
        """RoPE on [T, heads, width]: the pair (j, j + width / 2) turns by position * base ** (-2 j / width)."""
        half = self.head_width // 2
        frequencies = self.config["rope_theta"] ** (-2.0 * np.arange(half) / self.head_width) / self.rope_freq_factors()
        angles = np.arange(x.shape[0])[:, None] * frequencies
        cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
        first, second = x[..., :half], x[..., half:]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def rope_freq_factors(self):
        """RoPE scaling: all waves stretched ("linear"), or the longer ones, with a ramp between (Llama 3.1)."""
        scaling, half = self.config.get("rope_scaling"), self.head_width // 2
        if not scaling:
            return np.ones(half)
        if scaling["rope_type"] == "linear":
            return np.full(half, float(scaling["factor"]))
        assert scaling["rope_type"] == "llama3", scaling
        wavelengths = 2.0 * np.pi * self.config["rope_theta"] ** (2.0 * np.arange(half) / self.head_width)
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        smooth = np.clip((scaling["original_max_position_embeddings"] / wavelengths - low) / (high - low), 0.0, 1.0)
        return 1.0 / ((1.0 - smooth) / scaling["factor"] + smooth)

    def attention(self, x, layer):
        prefix = layer + "self_attn."
        tokens = x.shape[0]
        q = self.linear(x, prefix + "q_proj").reshape(tokens, self.heads, self.head_width)
        k = self.linear(x, prefix + "k_proj").reshape(tokens, self.kv_heads, self.head_width)
        v = self.linear(x, prefix + "v_proj").reshape(tokens, self.kv_heads, self.head_width)
        if prefix + "q_norm.weight" in self.weights:
            q, k = self.norm(q, prefix + "q_norm.weight"), self.norm(k, prefix + "k_norm.weight")
        q, k = self.apply_rope(q), self.apply_rope(k)
        k, v = (np.repeat(a, self.heads // self.kv_heads, axis=1) for a in (k, v))
        return self.linear(attend(q, k, v), prefix + "o_proj")

    def feed_forward(self, x, layer):
        prefix = layer + "mlp."
        gate, up = self.linear(x, prefix + "gate_proj"), self.linear(x, prefix + "up_proj")
        return self.linear(silu(gate) * up, prefix + "down_proj")

    def logits(self, ids):
        x = self.weights["model.embed_tokens.weight"][np.asarray(ids)]
        for i in range(self.config["num_hidden_layers"]):
            layer = f"model.layers.{i}."
            x = x + self.attention(self.norm(x, layer + "input_layernorm.weight"), layer)
            x = x + self.feed_forward(self.norm(x, layer + "post_attention_layernorm.weight"), layer)
        x = self.norm(x, "model.norm.weight")
        head = "model.embed_tokens.weight" if self.config["tie_word_embeddings"] else "lm_head.weight"
        return x @ self.weights[head].T

    def greedy(self, ids, count):
        ids = list(ids)
        for _ in range(count):
            ids.append(int(self.logits(ids)[-1].argmax()))
        return ids[-count:] if count else []


class Gpt2(ReferenceModel):
    """LayerNorm, learned positions, one matrix for q, k and v, GELU; matrices lie as [inputs, outputs]."""

    def __init__(self, config, weights):
        self.config = config
        self.weights = {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.config["layer_norm_epsilon"])
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def linear(self, x, name):
        return x @ self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def logits(self, ids):
        x = self.weights["transformer.wte.weight"][np.asarray(ids)] + self.weights["transformer.wpe.weight"][: len(ids)]
        for i in range(self.config["n_layer"]):
            layer = f"transformer.h.{i}."
            qkv = self.linear(self.norm(x, layer + "ln_1"), layer + "attn.c_attn")
            q, k, v = qkv.reshape(len(ids), 3, self.config["n_head"], -1).swapaxes(0, 1)
            x = x + self.linear(attend(q, k, v), layer + "attn.c_proj")
            x = x + self.linear(gelu(self.linear(self.norm(x, layer + "ln_2"), layer + "mlp.c_fc")), layer + "mlp.c_proj")
        head = "transformer.wte.weight" if self.config["tie_word_embeddings"] else "lm_head.weight"
        return self.norm(x, "transformer.ln_f") @ self.weights[head].T


def nll(logits, ids):
    """Nats of each id given those before it: entries 1 .. len(ids) - 1."""
    rows = np.asarray(logits, np.float64)[:-1]
    row_max = rows.max(-1)
    return np.log(np.exp(rows - row_max[:, None]).sum(-1)) + row_max - rows[np.arange(len(ids) - 1), np.asarray(ids)[1:]]
