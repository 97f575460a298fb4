from stencil import render


def test_default_replaces_what_is_empty():
    assert render('{{ x | default: "none" }}') == "none"
    assert render('{{ x | default: "none" }}', {"x": ""}) == "none"
    assert render('{{ x | default: "none" }}', {"x": []}) == "none"


def test_default_keeps_zero_and_false():
    assert render('{{ x | default: "none" }}', {"x": 0}) == "0"
    assert render('{{ x | default: "none" }}', {"x": False}) == "false"
    assert render('{{ x | default: "none" }}', {"x": "text"}) == "text"


def test_default_may_name_another_value():
    assert render("{{ nick | default: user.name }}", {"user": {"name": "ada"}}) == "ada"


def test_join():
    assert render("{{ xs | join }}", {"xs": ["a", "b"]}) == "a, b"
    assert render('{{ xs | join: " | " }}', {"xs": [1, None, True]}) == "1 |  | true"
    assert render("[{{ xs | join }}]") == "[]"


def test_truncate_leaves_short_text():
    assert render("{{ t | truncate: 11 }}", {"t": "hello world"}) == "hello world"


def test_truncate_cuts_at_a_space():
    assert render("{{ t | truncate: 10 }}", {"t": "hello world"}) == "hello..."
    assert render("{{ t | truncate: 14 }}", {"t": "one two three four"}) == "one two..."
    assert render("{{ t | truncate: 8 }}", {"t": "hello world"}) == "hello..."


def test_truncate_cuts_a_word_without_spaces():
    assert render("{{ t | truncate: 8 }}", {"t": "incomprehensible"}) == "incom..."


def test_truncate_with_another_ending():
    assert render('{{ t | truncate: 8, "" }}', {"t": "hello world"}) == "hello"
    assert render('{{ t | truncate: 7, "~" }}', {"t": "hello world"}) == "hello~"


def test_truncate_never_exceeds_the_length():
    assert render("{{ t | truncate: 2 }}", {"t": "hello"}) == ".."


def test_truncate_default_length():
    assert render("{{ t | truncate }}", {"t": "x" * 50}) == "x" * 37 + "..."
    assert render("{{ t | truncate }}", {"t": "y" * 40}) == "y" * 40


def test_plural():
    text = "{{ n }} file{{ n | plural }}"
    assert [render(text, {"n": n}) for n in (0, 1, 2)] == ["0 files", "1 file", "2 files"]


def test_plural_with_endings():
    assert render('entr{{ xs | plural: "ies", "y" }}', {"xs": ["a"]}) == "entry"
    assert render('entr{{ xs | plural: "ies", "y" }}', {"xs": []}) == "entries"


def test_results_are_escaped():
    assert render("{{ xs | join }}", {"xs": ["<", ">"]}) == "&lt;, &gt;"
