#!/usr/bin/env python3
"""Records a real session in a terminal and draws it: docs/pictures/session.cast (asciicast 2, which asciinema plays too)
and docs/pictures/session.svg.

    tools/record_session.py build/release/slipway      runs the commands below in a pty, about two minutes on two cores
    tools/record_session.py --draw                     draws the recording again
    tools/record_session.py --check                    ends with 1 where the picture is not that of the recording
"""
import codecs
import fcntl
import html
import json
import os
import pathlib
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time

from svg import MONO

ROOT = pathlib.Path(__file__).resolve().parents[1]
CAST, SVG = (ROOT / "docs" / "pictures" / name for name in ("session.cast", "session.svg"))
COLUMNS, ROWS = 110, 50
CTRL_C = "\x03"
# (command, what is typed once the output holds a text)
SESSION = [
    ("slipway tokenizer train --input text --tokenizer.vocabulary 2048 --out tok.json", None),
    ("slipway data prepare --tokenizer tok.json --input text --data.document_bytes 8000 --out data", None),
    ("launch/run -n 2 slipway train --run runs/a --data data --model.preset llama-1m --model.layers 6 \\\n"
     "    --train.steps 200 --train.sequence 256 --train.batch 8 --optim.name muon --runtime.threads 1 --log.every 40", ("Step 80 ", CTRL_C)),
    ("launch/run -n 1 slipway train --resume runs/a", None),
    ("slipway export runs/a --out a.gguf --type q8_0", None),
    ("slipway generate a.gguf --prompt 'def read_lines(path):' --tokens 60 --temperature 0.7", None),
]
LONGEST_PAUSE_S = 0.6  # in the picture: waiting is cut to this


def record(slipway):
    events, begin = [], time.monotonic()

    def emit(text):
        events.append([round(time.monotonic() - begin, 3), "o", text])

    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, ROOT / "tools" / "python_source.py", f"{folder}/text", "--bytes", "1500000"], check=True, capture_output=True)
        os.symlink(ROOT / "launch", f"{folder}/launch")
        os.mkdir(f"{folder}/bin")
        os.symlink(pathlib.Path(slipway).resolve(), f"{folder}/bin/slipway")
        environment = os.environ | {"PATH": f"{folder}/bin:{os.environ['PATH']}", "TERM": "xterm", "COLUMNS": str(COLUMNS), "LANG": "C.UTF-8"}
        for command, answer in SESSION:
            emit("$ " + command.replace("\n", "\r\n") + "\r\n")
            status = run(command, answer, folder, environment, emit)
            if status != 0:
                emit(f"[status {status}]\r\n")
            if status not in (0, 138):
                raise SystemExit(f"{command} ended with {status}\n{''.join(text for _, _, text in events)[-3000:]}")
            emit("\r\n")
    head = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "Slipway: text to GGUF, with a stop in between"}
    CAST.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in [head, *events]) + "\n")


def run(command, answer, folder, environment, emit):
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe("bash", ["bash", "-c", command], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    output, decoder = "", codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        if select.select([terminal], [], [], 300)[0] == []:
            raise SystemExit(f"{command}: nothing for 300 s")
        try:
            text = decoder.decode(os.read(terminal, 4096))  # a character that is cut in two comes with the next read
        except OSError:  # the other side is closed
            break
        output += text
        emit(text)
        if answer and answer[0] in output:
            os.write(terminal, answer[1].encode())
            answer = None
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Screen:
    """What a terminal of COLUMNS columns shows, without end downwards; colours are left out."""

    def __init__(self):
        self.lines, self.changed, self.x = [""], [0.0], 0

    def feed(self, at_s, text):
        for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|\x08|[^\x1b\r\n\x08]", text):
            if piece == "\r":
                self.x = 0
            elif piece == "\n":
                self.lines.append("")
                self.changed.append(at_s)
                self.x = 0
            elif piece == "\x08":
                self.x = max(0, self.x - 1)
            elif piece.startswith("\x1b"):
                if piece.endswith("K"):
                    self.lines[-1] = "" if piece == "\x1b[2K" else self.lines[-1][: self.x]
            elif piece >= " ":
                if self.x == COLUMNS:
                    self.feed(at_s, "\n")
                line = self.lines[-1].ljust(self.x)
                self.lines[-1] = line[: self.x] + piece + line[self.x + 1:]
                self.x += 1
                self.changed[-1] = at_s


def draw():
    head, *events = (json.loads(line) for line in CAST.read_text().splitlines())
    screen, before, shown_s = Screen(), 0.0, 0.0
    for at_s, _, text in events:
        shown_s += min(at_s - before, LONGEST_PAUSE_S)
        before = at_s
        screen.feed(round(shown_s, 1), text)
    while screen.lines and not screen.lines[-1].strip():
        screen.lines.pop()
    advance, leading, left, top = 7.23, 17, 16, 52
    width, height = round(2 * left + COLUMNS * advance), top + leading * len(screen.lines) + 8
    parts = []
    for number, (line, at_s) in enumerate(zip(screen.lines, screen.changed)):
        is_command = line.startswith("$ ") or (number and screen.lines[number - 1].endswith("\\"))
        kind = "typed" if is_command else "note" if line.startswith("[status") else "error" if "error (" in line else "said"
        hidden = f'<set attributeName="visibility" to="hidden" begin="0s" dur="{at_s}s"/>' if at_s > 0 else ""
        if line.strip():
            parts.append(f'<text x="{left}" y="{top + leading * number}" class="{kind}" xml:space="preserve" '
                         f'textLength="{round(len(line) * advance, 1)}" lengthAdjust="spacingAndGlyphs">{html.escape(line, quote=False)}{hidden}</text>')
    style = (f"text{{font-family:{MONO};font-size:12px}}.said{{fill:#c9d1d9}}.typed{{fill:#ffffff;font-weight:600}}.note{{fill:#f0b35a}}"
             ".error{fill:#ff8f86}.title{fill:#9aa4af}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">\n'
            f'<title>{html.escape(head["title"])}</title>\n<style>{style}</style>\n'
            f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="10" fill="#0d1117" stroke="#3d4754"/>\n'
            '<circle cx="20" cy="18" r="6" fill="#ff5f57"/><circle cx="40" cy="18" r="6" fill="#febc2e"/><circle cx="60" cy="18" r="6" fill="#28c840"/>\n'
            f'<text x="{width // 2}" y="22" class="title" text-anchor="middle">{html.escape(head["title"])}</text>\n' + "\n".join(parts) + "\n</svg>\n")


def main(mode):
    if mode == "--check":
        if draw() != SVG.read_text():
            print("docs/pictures/session.svg is old: run tools/record_session.py --draw")
            return 1
        return 0
    if mode != "--draw":
        record(mode)
    SVG.write_text(draw())
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    sys.exit(main(sys.argv[1]))
