#!/usr/bin/env python3
"""Writes docs/reference.md, the page of all commands and keys, from what the program itself says.

    tools/reference_page.py build/release/slipway > docs/reference.md
"""
import subprocess
import sys

COMMANDS = ["tokenizer train", "tokenizer encode", "tokenizer decode", "data prepare", "data verify", "data inspect", "plan", "train",
            "checkpoint verify", "checkpoint inspect", "checkpoint diff", "checkpoint consolidate", "generate", "score", "qa", "bench", "export",
            "doctor"]


def command_output(program, *argv):
    return subprocess.run([program, *argv], check=True, capture_output=True, text=True).stdout.rstrip()


def page(program):
    parts = ["# Which commands and keys are there?",
             "Written by the program: `tools/reference_page.py build/release/slipway > docs/reference.md`; it is what\n"
             "`--help all` prints. Where a default is 0 or empty, the program works the value out, and `resolved.ini` of a run\n"
             "shows it. Keys with a section (`train.steps`) may also stand in an INI file given by `--config`: `[train]`, then\n"
             "`steps = 2000`.",
             "```\n" + command_output(program, "--help") + "\n```"]
    for command in COMMANDS:
        parts.append(f"## {command}\n\n```\n{command_output(program, *command.split(), '--help', 'all')}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(sys.argv[1]))
