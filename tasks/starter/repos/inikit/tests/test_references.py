import unittest

import inikit


def value(text, section, key):
    return inikit.loads(text).get(section, key)


class ReferencesTest(unittest.TestCase):
    def test_same_section(self):
        self.assertEqual(value("[s]\nhost = h\nurl = http://${host}/\n", "s", "url"), "http://h/")

    def test_other_section(self):
        self.assertEqual(value("[a]\nx = 1\n[b]\ny = ${a.x}2\n", "b", "y"), "12")

    def test_several_in_one_value(self):
        self.assertEqual(value("[s]\na = 1\nb = 2\nc = ${a}-${b}-${a}\n", "s", "c"), "1-2-1")

    def test_references_are_followed_from_the_section_they_stand_in(self):
        text = "[a]\nroot = /a\nlogs = ${root}/logs\n[b]\nroot = /b\nfile = ${a.logs}/x\n"
        self.assertEqual(value(text, "b", "file"), "/a/logs/x")

    def test_later_keys_may_be_named(self):
        self.assertEqual(value("[s]\na = <${b}>\nb = 2\n", "s", "a"), "<2>")

    def test_keys_may_hold_dots(self):
        self.assertEqual(value("[a]\nx.y = 1\n[b]\nz = ${a.x.y}\n", "b", "z"), "1")

    def test_two_dollars_are_one(self):
        self.assertEqual(value("[s]\na = 5$$\nb = $${a}\n", "s", "a"), "5$")
        self.assertEqual(value("[s]\na = 5$$\nb = $${a}\n", "s", "b"), "${a}")

    def test_a_single_dollar_stays(self):
        self.assertEqual(value("[s]\na = $x and $ and $(y)\n", "s", "a"), "$x and $ and $(y)")

    def test_typed_access_expands(self):
        config = inikit.loads("[s]\nbase = 80\nport = ${base}80\nall = ${base}, ${port}\n")
        self.assertEqual(config.get_int("s", "port"), 8080)
        self.assertEqual(config.get_list("s", "all"), ["80", "8080"])

    def test_raw_is_not_expanded(self):
        self.assertEqual(inikit.loads("[s]\na = ${b}\nb = 1\n").raw("s", "a"), "${b}")
        self.assertEqual(inikit.loads("[s]\na = ${b}\nb = 1\n").get("s", "a"), "1")

    def test_layers_are_merged_before_expansion(self):
        low = inikit.loads("[s]\nroot = /low\nlogs = ${root}/logs\n")
        high = inikit.loads("[s]\nroot = /high\n")
        self.assertEqual(inikit.merge(low, high).get("s", "logs"), "/high/logs")

    def test_unknown_reference(self):
        with self.assertRaises(inikit.ConfigError) as caught:
            value("[s]\na = ${b}\n", "s", "a")
        self.assertEqual(str(caught.exception), "s.a refers to unknown s.b")
        with self.assertRaises(inikit.ConfigError) as caught:
            value("[s]\na = <${b}>\nb = ${t.c}\n", "s", "a")
        self.assertEqual(str(caught.exception), "s.b refers to unknown t.c")

    def test_circular_reference(self):
        with self.assertRaises(inikit.ConfigError) as caught:
            value("[s]\na = ${b}\nb = ${a}\n", "s", "a")
        self.assertEqual(str(caught.exception), "circular reference: s.a -> s.b -> s.a")
        with self.assertRaises(inikit.ConfigError) as caught:
            value("[s]\na = ${b}\nb = ${c}\nc = ${b}\n", "s", "a")
        self.assertEqual(str(caught.exception), "circular reference: s.b -> s.c -> s.b")

    def test_twice_is_not_circular(self):
        self.assertEqual(value("[s]\na = ${b}${c}\nb = ${c}\nc = x\n", "s", "a"), "xx")
