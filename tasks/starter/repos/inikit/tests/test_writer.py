import unittest

import inikit


class WriterTest(unittest.TestCase):
    def test_plain(self):
        config = inikit.Config({"b": {"y": "1", "x": "two words"}, "a": {}})
        self.assertEqual(inikit.dumps(config), "[b]\ny = 1\nx = two words\n\n[a]\n")

    def test_quotes_where_needed(self):
        config = inikit.Config({"s": {"a": " x", "b": "x # y", "c": "x#y", "d": "#x", "e": "p\t; q"}})
        self.assertEqual(
            inikit.dumps(config), '[s]\na = " x"\nb = "x # y"\nc = x#y\nd = "#x"\ne = "p\t; q"\n'
        )

    def test_empty_values(self):
        self.assertEqual(inikit.dumps(inikit.Config({"s": {"a": "", "b": "\nx"}})), "[s]\na =\nb =\n    x\n")

    def test_lines(self):
        self.assertEqual(
            inikit.dumps(inikit.Config({"s": {"a": "x\ny \n# z"}})), '[s]\na = x\n    "y "\n    "# z"\n'
        )

    def test_round_trip(self):
        text = '[s]\na = x\n    "y "\n    z\nb = "  "\n\n[t]\nc = ${s.a}\n'
        self.assertEqual(inikit.dumps(inikit.loads(text)), text)

    def test_nothing(self):
        self.assertEqual(inikit.dumps(inikit.Config()), "")

    def test_values_that_cannot_be_written(self):
        with self.assertRaises(ValueError) as caught:
            inikit.dumps(inikit.Config({"s": {"a": 'say "hi"'}}))
        self.assertEqual(str(caught.exception), "the value of 'a' holds a quote: 'say \"hi\"'")
        with self.assertRaises(ValueError) as caught:
            inikit.dumps(inikit.Config({"s": {"b": "x\n\ny"}}))
        self.assertEqual(str(caught.exception), "the value of 'b' holds an empty line: 'x\\n\\ny'")
