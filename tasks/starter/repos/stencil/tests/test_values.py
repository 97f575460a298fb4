from types import SimpleNamespace

import pytest

from stencil import Template, TemplateError, render


def test_text_and_values():
    assert render("Hello {{ name }}!", {"name": "Ada"}) == "Hello Ada!"
    assert render("") == ""


def test_dotted_paths():
    values = {"user": {"tags": ["a", "b"], "home": SimpleNamespace(city="Bern")}}
    assert render("{{ user.tags.1 }} {{ user.home.city }}", values) == "b Bern"


def test_unknown_names_are_empty():
    assert render("[{{ nobody }}{{ user.x.y }}{{ tags.7 }}]", {"user": {}, "tags": [1]}) == "[]"


def test_strict_templates_refuse_unknown_names():
    with pytest.raises(TemplateError, match="line 2: unknown name 'user.name'"):
        Template("\n{{ user.name }}", strict=True).render({"user": {}})


def test_private_attributes_are_unknown():
    assert render("{{ x.__class__ }}", {"x": 1}) == ""


def test_printing():
    assert (
        render("{{ a }} {{ b }} {{ c }} {{ d }}", {"a": True, "b": None, "c": 0, "d": 1.5}) == "true  0 1.5"
    )


def test_comments_vanish():
    assert render("a{# {{ b }}\n #}c") == "ac"


def test_a_template_is_rendered_often():
    template = Template("{{ n }}")
    assert [template.render({"n": n}) for n in (1, 2)] == ["1", "2"]


def test_custom_filters():
    assert render("{{ n | twice | twice }}", {"n": 3}, filters={"twice": lambda value: 2 * value}) == "12"


def test_built_in_filters():
    values = {"t": " ab Cd ", "items": [1, 2]}
    assert (
        render("{{ t | trim | upper }}|{{ t | trim | lower | title }}|{{ items | length }}", values)
        == "AB CD|Ab Cd|2"
    )


def test_syntax_errors_name_the_line():
    for text, message in [
        ("a\n{{ b", "line 2: a tag is never closed"),
        ("{{ 1x }}", "line 1: not a name: '1x'"),
        ("\n\n{{ x | }}", "line 3: not a filter: ''"),
        ("{{ x | f: ? }}", "line 1: not an argument: '\\?'"),
        ("{% jump %}", "line 1: unexpected {% jump %}"),
    ]:
        with pytest.raises(TemplateError, match=message):
            render(text)


def test_unknown_filter():
    with pytest.raises(TemplateError, match="line 1: unknown filter 'shout'"):
        render("{{ x | shout }}")
