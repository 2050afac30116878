"""The gguf package converts, as llama.cpp's own script does: a request (JSON) on standard input, seconds on standard output."""
import json
import os
import re
import sys
import time

import gguf
import numpy as np
from safetensors.numpy import load_file

NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}

request = json.load(sys.stdin)
kind = gguf.GGMLQuantizationType[request["kind"].upper()]
begin = time.monotonic()
writer = gguf.GGUFWriter(request["out"], "llama")
writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{request['kind'].upper()}"])
for name, values in load_file(request["weights"]).items():
    layer, part = re.fullmatch(r"(?:model\.layers\.(\d+)\.)?(.*)\.weight", name).groups()
    target = (f"blk.{layer}." if layer else "") + NAMES[part] + ".weight"
    if values.ndim == 1:
        writer.add_tensor(target, values)
        continue
    if NAMES[part] in ("attn_q", "attn_k"):  # llama.cpp turns neighbouring pairs: rows of a head are reordered
        heads = request["kv_heads" if part.endswith("k_proj") else "heads"]
        rows, columns = values.shape
        values = np.ascontiguousarray(values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(values.shape))
    writer.add_tensor(target, gguf.quants.quantize(values, kind), raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
with open(request["out"], "rb") as file:
    os.fsync(file.fileno())
print(json.dumps({"seconds": time.monotonic() - begin}))
