"""tensorboard's own reader gets our curves, also across a resume. Usage: tensorboard_oracle.py <format_probe>"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

PROBE = sys.argv.pop(1)


def read_scalars(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(point.step, point.value) for point in accumulator.Scalars(tag)] for tag in tags}


class TensorBoard(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name, "tb")

    def write(self, first, last):
        subprocess.run([PROBE, "curves", self.folder, str(first), str(last)], check=True)

    def test_scalars_arrive_with_step_and_value(self):
        self.write(1, 5)
        actual = read_scalars(self.folder)
        self.assertEqual(sorted(actual), ["loss/train", "loss/validation"])
        self.assertEqual([step for step, _ in actual["loss/train"]], [1, 2, 3, 4, 5])
        for step, value in actual["loss/train"]:
            self.assertAlmostEqual(value, 1 / step, places=6)

    def test_a_resume_gives_every_step_once(self):
        self.write(1, 7)
        self.write(5, 9)  # the run was killed after step 7 and resumed from a checkpoint of step 4
        actual = read_scalars(self.folder)
        self.assertEqual([step for step, _ in actual["loss/train"]], list(range(1, 10)))
        self.assertEqual([step for step, _ in actual["loss/validation"]], [2, 4, 6, 8])


if __name__ == "__main__":
    unittest.main()
