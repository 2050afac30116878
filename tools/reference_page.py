#!/usr/bin/env python3
"""Writes docs/reference.md, the page of all commands and keys, from what the program itself says.

    tools/reference_page.py build/release/slipway > docs/reference.md
"""
import subprocess
import sys

COMMANDS = ["doctor", "tokenizer train", "tokenizer encode", "tokenizer decode", "data prepare", "data verify", "data inspect", "plan", "train",
            "checkpoint", "qa", "bench", "score", "generate", "export"]


def said(program, *words):
    return subprocess.run([program, *words], check=True, capture_output=True, text=True).stdout.rstrip()


def page(program):
    parts = ["# Which commands and keys are there?",
             "Written by the program: `tools/reference_page.py build/release/slipway > docs/reference.md`. In brackets stand the\n"
             "defaults; 0 or nothing mostly means that the program works it out, and `resolved.ini` of a run shows to what. Keys\n"
             "with a section (`train.steps`) may also stand in an INI file given by `--config`: `[train]`, then `steps = 2000`.",
             "```\n" + said(program, "--help") + "\n```"]
    for command in COMMANDS:
        parts.append(f"## {command}\n\n```\n{said(program, *command.split(), '--help')}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(sys.argv[1]))
