import unittest

import inikit


class DurationTest(unittest.TestCase):
    def test_plain_numbers_are_seconds(self):
        self.assertEqual(inikit.parse_duration("90"), 90)
        self.assertEqual(inikit.parse_duration(" 0 "), 0)
        self.assertEqual(inikit.parse_duration("1.5"), 1.5)

    def test_single_units(self):
        self.assertEqual(inikit.parse_duration("45s"), 45)
        self.assertEqual(inikit.parse_duration("10m"), 600)
        self.assertEqual(inikit.parse_duration("2h"), 7200)
        self.assertEqual(inikit.parse_duration("1d"), 86400)
        self.assertEqual(inikit.parse_duration("250ms"), 0.25)

    def test_units_add_up(self):
        self.assertEqual(inikit.parse_duration("1h30m"), 5400)
        self.assertEqual(inikit.parse_duration("2d 6h"), 194400)
        self.assertEqual(inikit.parse_duration("1m 1s 500ms"), 61.5)

    def test_decimal_points(self):
        self.assertEqual(inikit.parse_duration("1.5h"), 5400)
        self.assertEqual(inikit.parse_duration("0.1s"), 0.1)

    def test_whole_results_are_ints(self):
        self.assertEqual(repr(inikit.parse_duration("1.5h")), "5400")
        self.assertEqual(repr(inikit.parse_duration("2000ms")), "2")
        self.assertEqual(repr(inikit.parse_duration("0.5")), "0.5")

    def test_order_and_repeats_are_checked(self):
        self.assertEqual(inikit.parse_duration("1h 2m 1s 5ms"), 3721.005)
        for text in ("30m1h", "1h 2h", "5ms 1s"):
            with self.subTest(text=text), self.assertRaisesRegex(ValueError, "not a duration"):
                inikit.parse_duration(text)

    def test_nonsense(self):
        self.assertEqual(inikit.parse_duration("1h30s"), 3630)
        for text in ("", " ", "h", "1x", "1h30", "-5s", "1 h", "1.h", "five"):
            with self.subTest(text=text), self.assertRaisesRegex(ValueError, "not a duration"):
                inikit.parse_duration(text)

    def test_config_access(self):
        config = inikit.Config({"s": {"timeout": "1m30s", "bad": "soon"}})
        self.assertEqual(config.get_duration("s", "timeout"), 90)
        self.assertEqual(config.get_duration("s", "none", 5), 5)
        with self.assertRaisesRegex(inikit.ConfigError, "s.bad is not a duration: 'soon'"):
            config.get_duration("s", "bad")
