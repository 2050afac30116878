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


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(value)) + value


def packed(kind, value):
    return text(value) if kind == STRING else struct.pack("<" + FORMATS[kind], value)


class Gguf:
    """`keys` holds [key, type, value, element type of an array]; `tensors` [name, dimensions, type, bytes]."""

    def __init__(self, path):
        self.bytes, self.at = pathlib.Path(path).read_bytes(), 0
        assert self.take(4) == b"GGUF" and self.number(U32) == 3, path
        tensors, keys = self.number(10), self.number(10)
        self.keys = [self.pair() for _ in range(keys)]
        self.tensors = [self.record() for _ in range(tensors)]
        start = self.at + -self.at % ALIGNMENT
        for tensor in self.tensors:
            elements, size = BLOCKS[tensor[2]]
            self.at = start + tensor[3]
            tensor[3] = bytearray(self.take(math.prod(tensor[1]) // elements * size))

    def take(self, count):
        self.at += count
        return self.bytes[self.at - count:self.at]

    def number(self, kind):
        return struct.unpack("<" + FORMATS[kind], self.take(struct.calcsize("<" + FORMATS[kind])))[0]

    def value(self, kind):
        return self.take(self.number(10)) if kind == STRING else self.number(kind)

    def pair(self):
        key, kind = self.value(STRING).decode(), self.number(U32)
        if kind != ARRAY:
            return [key, kind, self.value(kind), None]
        of, count = self.number(U32), self.number(10)
        return [key, kind, [self.value(of) for _ in range(count)], of]

    def record(self):
        name = self.value(STRING)
        dimensions = [self.number(10) for _ in range(self.number(U32))]
        return [name.decode(), dimensions, self.number(U32), self.number(10)]

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
        for key, kind, value, of in self.keys:
            head += text(key) + struct.pack("<I", kind)
            if kind == ARRAY:
                head += struct.pack("<IQ", of, len(value)) + b"".join(packed(of, one) for one in value)
            else:
                head += packed(kind, value)
        data = bytearray()
        for name, dimensions, kind, content in self.tensors:
            head += text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, len(data))
            data += content + bytes(-len(content) % ALIGNMENT)
        pathlib.Path(path).write_bytes(head + bytes(-len(head) % ALIGNMENT) + data)
