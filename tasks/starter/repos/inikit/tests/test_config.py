import unittest

import inikit

CONFIG = inikit.Config({"s": {"n": "1_000", "yes": "On", "items": "a, b,,\nc", "word": "abc"}})


class ConfigTest(unittest.TestCase):
    def test_get(self):
        self.assertEqual(CONFIG.get("s", "word"), "abc")
        self.assertIsNone(CONFIG.get("s", "none", None))
        with self.assertRaisesRegex(inikit.ConfigError, "no s.none"):
            CONFIG.get("s", "none")

    def test_get_int(self):
        self.assertEqual(CONFIG.get_int("s", "n"), 1000)
        self.assertEqual(CONFIG.get_int("t", "n", 5), 5)
        with self.assertRaisesRegex(inikit.ConfigError, "s.word is not a whole number: 'abc'"):
            CONFIG.get_int("s", "word")

    def test_get_bool(self):
        self.assertIs(CONFIG.get_bool("s", "yes"), True)
        self.assertIs(CONFIG.get_bool("s", "none", False), False)

    def test_get_list(self):
        self.assertEqual(CONFIG.get_list("s", "items"), ["a", "b", "c"])

    def test_reading_changes_nothing(self):
        sections = {"s": {"a": "1"}}
        config = inikit.Config(sections)
        sections["s"]["a"] = "2"
        self.assertEqual(config.get("s", "a"), "1")
