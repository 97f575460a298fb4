import unittest

import inikit


class ReaderTest(unittest.TestCase):
    def test_sections_and_keys_keep_their_order(self):
        config = inikit.loads("[b]\ny = 1\nx = 2\n\n[a]\n")
        self.assertEqual(config.sections(), ["b", "a"])
        self.assertEqual(config.keys("b"), ["y", "x"])

    def test_spaces_around_keys_and_values_go(self):
        self.assertEqual(inikit.loads("[ s ]\nkey=  a b  \n").raw("s", "key"), "a b")

    def test_comments(self):
        config = inikit.loads("# head\n[s] ; about s\na = x # why\nb = no#comment\n; tail\n")
        self.assertEqual(config, inikit.Config({"s": {"a": "x", "b": "no#comment"}}))

    def test_quotes_keep_spaces_and_comment_signs(self):
        self.assertEqual(inikit.loads('[s]\na = "  # not a comment "\n').raw("s", "a"), "  # not a comment ")

    def test_continued_values(self):
        self.assertEqual(inikit.loads("[s]\na = one\n    two\n\tthree\n").raw("s", "a"), "one\ntwo\nthree")

    def test_errors_name_the_line(self):
        for text, line, message in [
            ("a = 1", 1, "before the first section"),
            ("[s]\na\n", 2, "expected 'key = value'"),
            ("[s]\n\na = 1\na = 2\n", 4, "occurs twice"),
            ("[s]\n[s]\n", 2, "occurs twice"),
            ("[s\n", 1, "section header"),
            ("[s]\n  x\n", 2, "nothing to continue"),
            ('[s]\na = "x\n', 2, "never closed"),
            ('[s]\na = "x" y\n', 2, "outside the quotes"),
        ]:
            with self.subTest(text=text), self.assertRaisesRegex(inikit.ConfigError, message) as caught:
                inikit.loads(text)
            self.assertEqual(caught.exception.line, line)
