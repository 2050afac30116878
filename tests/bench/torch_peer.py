"""The peer in training: a llama decoder in plain PyTorch with its best settings, as a program of its own.

The first line of standard input is a request (JSON), each further one a number of steps to take, answered by a line of
JSON; so it stays warm while ours has its turn. The model is that of docs/interface.md's llama presets: RMSNorm, rotary
angles over halves of a head, grouped queries, SwiGLU, no biases.
"""
import json
import resource
import sys
import time

import numpy
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from torch.utils.checkpoint import checkpoint

# Axes: B sequences, T tokens, H heads, K head width, D model width, V vocabulary.


class Norm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight, self.eps).to(x.dtype)


def rotate(x_BHTK, cos_TK, sin_TK):
    first, second = x_BHTK.chunk(2, dim=-1)
    return (x_BHTK * cos_TK + torch.cat((-second, first), dim=-1) * sin_TK).to(x_BHTK.dtype)


class Block(nn.Module):
    def __init__(self, m):
        super().__init__()
        self.heads, self.kv_heads, self.head_width = m["heads"], m["kv_heads"], m["width"] // m["heads"]
        q, kv = self.heads * self.head_width, self.kv_heads * self.head_width
        self.attn_norm, self.ffn_norm = Norm(m["width"], m["norm_eps"]), Norm(m["width"], m["norm_eps"])
        self.q, self.k, self.v = (nn.Linear(m["width"], n, bias=False) for n in (q, kv, kv))
        self.output = nn.Linear(q, m["width"], bias=False)
        self.gate, self.up = (nn.Linear(m["width"], m["ffn"], bias=False) for _ in range(2))
        self.down = nn.Linear(m["ffn"], m["width"], bias=False)

    def forward(self, x_BTD, cos_TK, sin_TK):
        B, T, _ = x_BTD.shape
        normed = self.attn_norm(x_BTD)
        q, k, v = (w(normed).view(B, T, n, self.head_width).transpose(1, 2)
                   for w, n in ((self.q, self.heads), (self.k, self.kv_heads), (self.v, self.kv_heads)))
        attention_output = F.scaled_dot_product_attention(rotate(q, cos_TK, sin_TK), rotate(k, cos_TK, sin_TK), v, is_causal=True,
                                               enable_gqa=self.heads != self.kv_heads)
        x_BTD = x_BTD + self.output(attention_output.transpose(1, 2).reshape(B, T, -1))
        normed = self.ffn_norm(x_BTD)
        return x_BTD + self.down(F.silu(self.gate(normed)) * self.up(normed))


class Llama(nn.Module):
    def __init__(self, m, sequence):
        super().__init__()
        self.embedding = nn.Embedding(m["vocabulary"], m["width"])
        self.blocks = nn.ModuleList(Block(m) for _ in range(m["layers"]))
        self.norm = Norm(m["width"], m["norm_eps"])
        self.head = nn.Linear(m["width"], m["vocabulary"], bias=False)
        if m["tied"]:
            self.head.weight = self.embedding.weight
        K = m["width"] // m["heads"]
        angles = torch.outer(torch.arange(sequence).float(), m["rope_base"] ** (-torch.arange(0, K, 2).float() / K))
        self.register_buffer("cos_TK", torch.cat((angles, angles), -1).cos(), persistent=False)
        self.register_buffer("sin_TK", torch.cat((angles, angles), -1).sin(), persistent=False)

    def loss(self, ids_BT, targets_BT, chunks):
        """Mean nats per token. With `chunks` above 1 the logits live a chunk at a time, forward and backward."""
        x = self.embedding(ids_BT)
        for block in self.blocks:
            x = block(x, self.cos_TK, self.sin_TK)
        x = self.norm(x).flatten(0, 1)

        def summed_loss(rows, targets):
            return F.cross_entropy(self.head(rows).float(), targets, reduction="sum")

        targets = targets_BT.flatten()
        if chunks == 1:
            return summed_loss(x, targets) / targets.numel()
        parts = zip(x.chunk(chunks), targets.chunk(chunks))
        return sum(checkpoint(summed_loss, rows, t, use_reentrant=False) for rows, t in parts) / targets.numel()


def load_weights(model, path):
    """Takes the names of a Hugging Face llama."""
    file = load_file(path)
    top_level_names = {"embedding.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight",
            "head.weight": "lm_head.weight"}
    parts = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "q": "self_attn.q_proj",
             "k": "self_attn.k_proj", "v": "self_attn.v_proj", "output": "self_attn.o_proj", "gate": "mlp.gate_proj",
             "up": "mlp.up_proj", "down": "mlp.down_proj"}
    with torch.no_grad():
        for name, value in model.named_parameters():  # a tied head is listed once, as the embedding
            path_parts = name.split(".")
            hf_name = top_level_names.get(name) or f"model.layers.{path_parts[1]}.{parts[path_parts[2]]}.weight"
            value.copy_(file[hf_name])


class Training:
    """Model, optimizer and batches of one request."""

    def __init__(self, request):
        torch.set_num_threads(request["threads"])
        self.rows = torch.from_numpy(numpy.load(request["ids"])).long()  # [steps, B, T + 1]; from the front again when used up
        self.model = Llama(request["model"], self.rows.shape[2] - 1)
        load_weights(self.model, request["weights"])
        o = self.settings = request["optimizer"]
        groups = [{"params": [p for p in self.model.parameters() if p.dim() > 1], "weight_decay": o["weight_decay"]},
                  {"params": [p for p in self.model.parameters() if p.dim() == 1], "weight_decay": 0.0}]  # gains
        self.optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(o["beta1"], o["beta2"]), eps=o["eps"], fused=True)
        bf16, chunks = request["compute"] == "bf16", request["loss_chunks"]

        def forward(ids_BT, targets_BT):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                return self.model.loss(ids_BT, targets_BT, chunks)

        self.forward = torch.compile(forward, mode=request["mode"]) if request["compile"] else forward
        self.steps = 0

    def step(self):
        rows = self.rows[self.steps % len(self.rows)]
        rate = self.settings["rates"][min(self.steps, len(self.settings["rates"]) - 1)]
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.forward(rows[:, :-1], rows[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings["max_grad_norm"])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return loss.item()


def main():
    training = Training(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        losses, times = [], [time.monotonic()]
        for _ in range(int(line)):
            losses.append(training.step())
            times.append(time.monotonic())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"losses": losses, "step_s": [b - a for a, b in zip(times, times[1:])], "peak_bytes": peak}), flush=True)


if __name__ == "__main__":
    main()
