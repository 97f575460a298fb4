import unittest

import inikit


class BoolTest(unittest.TestCase):
    def test_true_and_false(self):
        self.assertEqual([inikit.parse_bool(text) for text in ("yes", "True", " ON ", "1")], [True] * 4)
        self.assertEqual([inikit.parse_bool(text) for text in ("no", "FALSE", "off", "0")], [False] * 4)

    def test_anything_else(self):
        with self.assertRaises(ValueError):
            inikit.parse_bool("maybe")


class ListTest(unittest.TestCase):
    def test_commas_and_lines(self):
        self.assertEqual(inikit.parse_list("a, b\nc,,d "), ["a", "b", "c", "d"])
        self.assertEqual(inikit.parse_list("\n"), [])
