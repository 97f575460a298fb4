import unittest

import inikit


class MergeTest(unittest.TestCase):
    def test_later_layers_win_key_by_key(self):
        low = inikit.Config({"s": {"a": "1", "b": "2"}})
        high = inikit.Config({"s": {"b": "3"}, "t": {"c": "4"}})
        self.assertEqual(inikit.merge(low, high), inikit.Config({"s": {"a": "1", "b": "3"}, "t": {"c": "4"}}))

    def test_an_empty_value_removes_the_key(self):
        low = inikit.Config({"s": {"a": "1", "b": "2"}})
        high = inikit.Config({"s": {"a": ""}})
        self.assertEqual(inikit.merge(low, high), inikit.Config({"s": {"b": "2"}}))

    def test_a_removed_key_can_come_back(self):
        layers = [inikit.Config({"s": {"a": value}}) for value in ("1", "", "2")]
        self.assertEqual(inikit.merge(*layers).get("s", "a"), "2")

    def test_layers_stay_as_they_were(self):
        low, high = inikit.Config({"s": {"a": "1"}}), inikit.Config({"s": {"a": "2"}})
        inikit.merge(low, high)
        self.assertEqual(low.get("s", "a"), "1")

    def test_nothing_to_merge(self):
        self.assertEqual(inikit.merge(), inikit.Config())
