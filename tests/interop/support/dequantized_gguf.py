"""A GGUF as other Pythons can read it, without the gguf package: every tensor as f32 by GGUF's names, and its metadata.
Usage: dequantized_gguf.py IN.gguf OUT.safetensors OUT.json"""

import json
import sys

import gguf
import numpy as np
from safetensors.numpy import save_file

reader = gguf.GGUFReader(sys.argv[1])
tensors = {}
for tensor in reader.tensors:
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    tensors[tensor.name] = np.ascontiguousarray(values.reshape(tuple(reversed(tensor.shape.tolist()))))
save_file(tensors, sys.argv[2])
with open(sys.argv[3], "w", encoding="utf-8") as file:
    json.dump({key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}, file)
