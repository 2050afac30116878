"""Writes src/data/unicode_tables.cpp: the class of every code point, as llama.cpp's pre-tokenizers see it.

Run   build/oracle/bin/python tools/oracle/unicode_tables.py src/data/unicode_tables.cpp
Reads the flags of llama.cpp itself (xllamacpp==2026.10.11549), since ICU 72 and Python's unicodedata differ from it
on code points that newer versions of Unicode assigned.
"""
import ctypes
import glob
import importlib.util
import os
import sys

NUMBER, LETTER, SPACE = 0x0002, 0x0004, 0x0100  # bits of unicode_cpt_flags (llama.cpp, src/unicode.h)
OTHER_CLASS, LETTER_CLASS, NUMBER_CLASS, SPACE_CLASS = 0, 1, 2, 3  # CharClass (src/data/unicode.hpp)


def llama_cpp_flags():
    folder = os.path.dirname(importlib.util.find_spec("xllamacpp").origin)
    library = ctypes.CDLL(glob.glob(os.path.join(folder, "*.so"))[0])
    flags = library._Z26unicode_cpt_flags_from_cptj
    flags.argtypes, flags.restype = [ctypes.c_uint32], ctypes.c_uint16
    return flags


def code_point_class(flags):
    if flags & LETTER:
        return LETTER_CLASS
    if flags & NUMBER:
        return NUMBER_CLASS
    return SPACE_CLASS if flags & SPACE else OTHER_CLASS


def main():
    flags = llama_cpp_flags()
    runs, last = [], None
    for code in range(0x110000):
        kind = code_point_class(flags(code))
        if kind != last:
            runs.append(code << 2 | kind)
            last = kind
    lines = ["  " + " ".join(f"0x{run:06x}," for run in runs[i:i + 11]) for i in range(0, len(runs), 11)]
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        out.write("// Written by tools/oracle/unicode_tables.py from llama.cpp (xllamacpp 2026.10.11549); do not edit.\n"
                  '#include "src/data/unicode.hpp"\n\n'
                  "namespace slipway {\n\n"
                  f"// {len(runs)} runs of code points of one class: first code point << 2 | class.\n"
                  "constexpr std::uint32_t kRuns[] = {\n" + "\n".join(lines) + "\n};\n"
                  "const std::span<const std::uint32_t> kCharClassRuns = kRuns;\n\n"
                  "}  // namespace slipway\n")


if __name__ == "__main__":
    main()
