"""Reads a GGUF into lists that can be edited and written again, for tests of unusual files. Needs only the standard library.

    model = Gguf("m.gguf")
    model.set("llama.rope.scale_linear", F32, 4.0)
    model.pad_rows(16)
    model.write("odd.gguf")
"""
import math
import pathlib
import struct

U32, I32, F32, STRING, ARRAY = 4, 5, 6, 8, 9  # numbers of types in the specification
FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", U32: "I", I32: "i", F32: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 30: (1, 2)}  # tensor type: elements and bytes of a block
ALIGNMENT = 32


def pack_string(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(value)) + value


def pack_value(kind, value):
    return pack_string(value) if kind == STRING else struct.pack("<" + FORMATS[kind], value)


class Gguf:
    """`keys` holds [key, type, value, element type of an array]; `tensors` [name, dimensions, type, bytes]."""

    def __init__(self, path):
        self.bytes, self.at = pathlib.Path(path).read_bytes(), 0
        assert self.read_bytes(4) == b"GGUF" and self.read_number(U32) == 3, path
        tensors, keys = self.read_number(10), self.read_number(10)
        self.keys = [self.read_pair() for _ in range(keys)]
        self.tensors = [self.read_tensor_info() for _ in range(tensors)]
        start = self.at + -self.at % ALIGNMENT
        for tensor in self.tensors:
            elements, size = BLOCKS[tensor[2]]
            self.at = start + tensor[3]
            tensor[3] = bytearray(self.read_bytes(math.prod(tensor[1]) // elements * size))

    def read_bytes(self, count):
        self.at += count
        return self.bytes[self.at - count:self.at]

    def read_number(self, kind):
        return struct.unpack("<" + FORMATS[kind], self.read_bytes(struct.calcsize("<" + FORMATS[kind])))[0]

    def read_value(self, kind):
        return self.read_bytes(self.read_number(10)) if kind == STRING else self.read_number(kind)

    def read_pair(self):
        key, kind = self.read_value(STRING).decode(), self.read_number(U32)
        if kind != ARRAY:
            return [key, kind, self.read_value(kind), None]
        element_type, count = self.read_number(U32), self.read_number(10)
        return [key, kind, [self.read_value(element_type) for _ in range(count)], element_type]

    def read_tensor_info(self):
        name = self.read_value(STRING)
        dimensions = [self.read_number(10) for _ in range(self.read_number(U32))]
        return [name.decode(), dimensions, self.read_number(U32), self.read_number(10)]

    def get(self, key):
        return next(pair[2] for pair in self.keys if pair[0] == key)

    def set(self, key, kind, value):
        self.keys = [pair for pair in self.keys if pair[0] != key] + [[key, kind, value, None]]

    def tensor(self, name):
        return next(tensor for tensor in self.tensors if tensor[0] == name)

    def pad_rows(self, count, byte=0):
        """Appends rows to the embedding, and to a head that is not tied to it."""
        for tensor in self.tensors:
            if tensor[0] in ("token_embd.weight", "output.weight"):
                tensor[3] += bytes([byte]) * (len(tensor[3]) // tensor[1][1] * count)
                tensor[1][1] += count

    def add_tokens(self, tokens, kind):
        """Tokens of llama.cpp's type `kind`, without rows."""
        self.get("tokenizer.ggml.tokens").extend(tokens)
        self.get("tokenizer.ggml.token_type").extend([kind] * len(tokens))

    def write(self, path):
        head = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.keys)))
        for key, kind, value, element_type in self.keys:
            head += pack_string(key) + struct.pack("<I", kind)
            if kind == ARRAY:
                head += struct.pack("<IQ", element_type, len(value)) + b"".join(pack_value(element_type, one) for one in value)
            else:
                head += pack_value(kind, value)
        data = bytearray()
        for name, dimensions, kind, content in self.tensors:
            head += pack_string(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, len(data))
            data += content + bytes(-len(content) % ALIGNMENT)
        pathlib.Path(path).write_bytes(head + bytes(-len(head) % ALIGNMENT) + data)
