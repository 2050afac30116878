#!/usr/bin/env python3
"""Wraps the prose of Markdown pages at 120 columns: only paragraphs and list items that have a longer line.

    tools/wrap_prose.py README.md docs/*.md        in place

Tables, fenced and indented code, headings and HTML stay as they are, and so does what cannot be broken (a link, code).
"""
import pathlib
import re
import sys

COLUMNS = 120
FENCE = re.compile(r"^\s*(```|~~~)")
ITEM = re.compile(r"^(\s*)((?:[-*+]|\d+[.)])\s+)")
LINK = re.compile(r"^\[[^\]]+\]: ")  # where a link leads
# A word of prose: a link or a piece of code stays on one line, together with what touches it.
WORD = re.compile(r"(?:\[[^\[\]]*\]\([^()\s]*\)|`[^`]*`|\S)+")
# At the start of a line these would mean something else to Markdown.
NOT_FIRST = re.compile(r"^(?:[-+*>#|=]|\d+[.)]$|```|~~~)")


def prose_ranges(lines):
    """Ranges [begin, end) of lines that are one paragraph or one list item."""
    begin, fenced, blank_before, in_list, in_code = None, False, True, False, False
    ranges = []

    def close(end):
        nonlocal begin
        if begin is not None:
            ranges.append((begin, end))
        begin = None

    for number, line in enumerate(lines):
        in_code = line.startswith("    ") and (in_code or (blank_before and not in_list))
        if FENCE.match(line):
            close(number)
            fenced = not fenced
        elif fenced:
            pass
        elif not line.strip():
            close(number)
        elif LINK.match(line) or line.lstrip().startswith(("|", "#", "<")) or in_code:
            close(number)
        elif ITEM.match(line):
            close(number)
            begin, in_list = number, True
        else:
            if begin is None:
                begin = number
                in_list = in_list and line.startswith(" ")
        blank_before = not line.strip()
        if line.startswith("#"):
            in_list = False
    close(len(lines))
    return ranges


def wrap(paragraph):
    """The lines of a paragraph, none longer than COLUMNS where a blank allows it."""
    item = ITEM.match(paragraph[0])
    first = item[0] if item else re.match(r"\s*", paragraph[0])[0]
    indent = " " * len(first) if item else first
    text = " ".join(line.strip() for line in [paragraph[0][len(first):], *paragraph[1:]])
    lines, line = [], first
    for word in WORD.findall(text):
        is_full = len(line) + 1 + len(word) > COLUMNS
        if line.strip() and line != first and is_full and not NOT_FIRST.match(word):
            lines.append(line)
            line = indent + word
        else:
            line += word if line in (first, indent) else " " + word
    return [*lines, line]


def too_long(lines):
    """Numbers, from 0, of lines of prose that are too long and could be broken."""
    for begin, end in prose_ranges(lines):
        if any(len(line) > COLUMNS for line in lines[begin:end]) and wrap(lines[begin:end]) != lines[begin:end]:
            yield next(number for number in range(begin, end) if len(lines[number]) > COLUMNS)


def page(text):
    lines = text.split("\n")
    for begin, end in reversed(prose_ranges(lines)):
        if any(len(line) > COLUMNS for line in lines[begin:end]):
            lines[begin:end] = wrap(lines[begin:end])
    return "\n".join(lines)


def main():
    for path in map(pathlib.Path, sys.argv[1:]):
        before = path.read_text()
        after = page(before)
        if after != before:
            path.write_text(after)
            print(f"wrapped {path}")


if __name__ == "__main__":
    main()
