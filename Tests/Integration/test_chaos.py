"""The check that breaks servers must itself be able to fail: told to spoil an answer, it has to notice."""
import subprocess
import sys
import unittest

import serving

SCRIPT = serving.ROOT / "Scripts/chaos"


class SabotageTests(unittest.TestCase):
    def run_chaos(self, sabotage, *more):
        result = subprocess.run(
            [sys.executable, str(SCRIPT), "--binary", serving.BINARY, "--seed", "7", "--requests", "40", "--bodies", "16",
             "--clients", "8", "--faults", "1", "--engines", "2", "--kinds", "kill,cut", "--sabotage", sabotage, *more],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150 * serving.PATIENCE)
        verdict = [line for line in result.stdout.splitlines() if line.endswith(" leaked")]
        self.assertEqual(len(verdict), 1, result.stdout + result.stderr)
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        return verdict[0]

    def test_a_wrong_answer_is_noticed(self):
        self.assertEqual(self.run_chaos("wrong"), "0 failed, 1 wrong, 0 leaked")

    def test_a_lost_answer_is_noticed(self):
        self.assertEqual(self.run_chaos("lost"), "1 failed, 0 wrong, 0 leaked")

    def test_a_connection_that_stays_open_is_noticed(self):
        self.assertEqual(self.run_chaos("leak"), "0 failed, 0 wrong, 1 leaked")


if __name__ == "__main__":
    unittest.main()
