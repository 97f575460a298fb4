import pytest

from stencil import Template, TemplateError, render


def test_every_item():
    assert render("{% for x in xs %}<{{ x }}>{% endfor %}", {"xs": [1, 2, 3]}) == "<1><2><3>"


def test_text_around_it_and_inside():
    assert render("a {% for x in xs %}{{ x }}, {% endfor %}z", {"xs": ["p", "q"]}) == "a p, q, z"


def test_paths_and_filters_in_the_series():
    values = {"user": {"langs": ["py", "c"]}}
    assert render("{% for l in user.langs %}{{ l | upper }} {% endfor %}", values) == "PY C "
    text = "{% for x in xs | backwards %}{{ x }}{% endfor %}"
    assert render(text, {"xs": "abc"}, filters={"backwards": lambda value: list(value)[::-1]}) == "cba"


def test_paths_from_the_item():
    users = [{"name": "ada", "age": 36}, {"name": "bob", "age": 7}]
    assert (
        render("{% for u in users %}{{ u.name }}:{{ u.age }};{% endfor %}", {"users": users})
        == "ada:36;bob:7;"
    )


def test_loop_values():
    text = "{% for x in xs %}{{ loop.index }}/{{ loop.length }}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}"
    assert render(text, {"xs": "a b c".split()}) == "1/3a, 2/3b, 3/3c"


def test_loop_first():
    assert (
        render("{% for x in xs %}{% if loop.first %}^{% endif %}{{ x }}{% endfor %}", {"xs": [5, 6]}) == "^56"
    )


def test_else_for_an_empty_series():
    text = "{% for x in xs %}{{ x }}{% else %}nothing{% endfor %}"
    assert render(text, {"xs": []}) == "nothing"
    assert render(text) == "nothing"
    assert render(text, {"xs": [0]}) == "0"


def test_nested_loops_have_their_own_loop():
    text = (
        "{% for r in rows %}{% for x in r %}{{ loop.index }}{{ x }} {% endfor %}|{{ loop.index }}{% endfor %}"
    )
    assert render(text, {"rows": [["a", "b"], ["c"]]}) == "1a 2b |11c |2"


def test_names_are_restored_afterwards():
    text = "{{ x }}{% for x in xs %}{{ x }}{% endfor %}{{ x }}{{ loop.index }}"
    assert render(text, {"x": "o", "xs": [1, 2]}) == "o12o"


def test_outer_names_stay_visible():
    assert render("{% for x in xs %}{{ x }}{{ y }}{% endfor %}", {"xs": [1, 2], "y": "!"}) == "1!2!"


def test_any_iterable():
    assert render("{% for x in xs %}{{ x }}{% endfor %}", {"xs": (n * n for n in range(4))}) == "0149"
    assert render("{% for k in d %}{{ k }}{% endfor %}", {"d": {"a": 1, "b": 2}}) == "ab"


def test_items_are_escaped():
    assert render("{% for x in xs %}{{ x }}{% endfor %}", {"xs": ["<", "&"]}) == "&lt;&amp;"


def test_loops_inside_conditions():
    text = "{% if xs %}{% for x in xs %}{{ x }}{% endfor %}{% else %}-{% endif %}"
    assert [render(text, {"xs": xs}) for xs in ([1, 2], [])] == ["12", "-"]


def mistake(text, values=None, **options):
    with pytest.raises(TemplateError) as caught:
        Template(text, **options).render(values)
    return str(caught.value)


def test_what_cannot_be_looped_over():
    for value in (7, "text", True):
        found = mistake("\n{% for x in n %}{% endfor %}", {"n": value})
        assert found == "line 2: cannot loop over 'n'"


def test_strict_templates_refuse_unknown_series():
    found = mistake("{% for x in xs %}{% endfor %}", {}, strict=True)
    assert found == "line 1: unknown name 'xs'"


def test_loops_that_are_never_closed():
    assert mistake("{% for x in xs %}\n{{ x }}") == "line 1: {% for x in xs %} is never closed"


def test_tags_that_do_not_fit():
    assert mistake("{% for x in xs %}\n{% endfor %}{% endfor %}") == "line 2: unexpected {% endfor %}"
    assert mistake("{% for x in xs %}{% endif %}{% endfor %}") == "line 1: unexpected {% endif %}"


def test_tags_that_cannot_be_read():
    found = mistake("{% for x of xs %}{% endfor %}")
    assert found == "line 1: expected 'for NAME in VALUE', found 'for x of xs'"
