"""Runs of lines that stand twice in the tree: the same text, wherever it is indented.

Blank lines, lines of brackets alone, includes, imports and license lines do not count. Needs Python alone.
"""

import collections
import re

MIN_LINES = 8  # shorter ones are the shape of the language: a signature, a test's frame
LIST_FILE = "tests/layers/duplicates.txt"
IGNORED = re.compile(r"[\[\]{}();,\s]*$|#\s*include\b|#pragma once$|(?:import|from) [\w.]+( import .*)?$"
                     r"|(?://|#|/?\*).*(?:license|copyright|SPDX)", re.IGNORECASE)


class DuplicateRun:
    """`lines` equal lines that begin in two places, each (path, line number)."""

    def __init__(self, first, second, lines):
        self.first, self.second = sorted((first, second), key=lambda location: (str(location[0]), location[1]))
        self.lines = lines

    @property
    def pair(self):
        return str(self.first[0]), str(self.second[0])


def code_lines(text):
    """(line number, stripped line) of every line that counts."""
    stripped = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in stripped if not IGNORED.match(line)]


def find_runs(texts):
    """The longest runs of at least MIN_LINES lines that stand twice in {path: text}, the longest first."""
    lines = {path: code_lines(text) for path, text in texts.items()}
    locations = collections.defaultdict(list)
    for path, numbered in lines.items():
        content = [line for _, line in numbered]
        for index in range(len(content) - MIN_LINES + 1):
            locations[tuple(content[index:index + MIN_LINES])].append((path, index))
    starts = collections.defaultdict(set)  # of equal windows, by the two files and the distance between the places
    for matches in locations.values():
        for i, (first, index) in enumerate(matches):
            for second, other_index in matches[i + 1:]:
                if first != second or other_index - index >= MIN_LINES:
                    starts[first, second, other_index - index].add(index)
    runs = []
    for (first, second, distance), windows in starts.items():
        for index in sorted(windows):
            if index - 1 in windows:
                continue
            end = index
            while end + 1 in windows:
                end += 1
            runs.append(DuplicateRun((first, lines[first][index][0]), (second, lines[second][index + distance][0]), end - index + MIN_LINES))
    return sorted(runs, key=lambda run: (-run.lines, run.pair, run.first[1]))


def listed_pairs(root):
    """(line number, words) of each line of tests/layers/duplicates.txt: two paths, a number of lines, a reason."""
    path = root / LIST_FILE
    for number, line in enumerate(path.read_text().splitlines() if path.is_file() else [], 1):
        if line.strip() and not line.startswith("#"):
            yield number, line.split(maxsplit=3)


def check(root, texts):
    """A sentence for each run that is not listed, and for each line of the list that nothing needs any more."""
    listed = {}
    for number, fields in listed_pairs(root):
        if len(fields) < 4 or not fields[2].isdigit():
            yield f"{LIST_FILE}:{number}: '{' '.join(fields)}', expected two paths, a number of lines and a reason"
            continue
        listed[tuple(sorted(fields[:2]))] = number, int(fields[2])
    longest = {}
    for run in find_runs(texts):
        longest.setdefault(run.pair, run.lines)
        if run.lines > listed.get(run.pair, (0, 0))[1]:
            yield (f"{run.first[0]}:{run.first[1]}: {run.lines} lines stand again at {run.second[0]}:{run.second[1]}; "
                   f"share them, or list the pair in {LIST_FILE} with the reason")
    for pair, (number, listed_lines) in listed.items():
        if longest.get(pair, 0) < listed_lines:
            yield (f"{LIST_FILE}:{number}: {pair[0]} and {pair[1]} share {longest.get(pair, f'fewer than {MIN_LINES}')} "
                   f"lines, not {listed_lines}: shorten the entry or remove it")
