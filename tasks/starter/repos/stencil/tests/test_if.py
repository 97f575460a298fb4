import pytest

from stencil import TemplateError, render


def test_branches():
    assert render("{% if x %}yes{% else %}no{% endif %}", {"x": 1}) == "yes"
    assert render("{% if x %}yes{% else %}no{% endif %}", {"x": []}) == "no"
    assert render("{% if x %}yes{% endif %}.") == "."


def test_not():
    assert render("{% if not x %}none{% endif %}") == "none"
    assert render("{% if not x | length %}none{% endif %}", {"x": [1]}) == ""


def test_nested():
    text = "{% if a %}A{% if b %}B{% else %}-{% endif %}{% else %}0{% endif %}"
    assert [render(text, {"a": a, "b": b}) for a in (0, 1) for b in (0, 1)] == ["0", "0", "A-", "AB"]


def test_mistakes():
    with pytest.raises(TemplateError, match="line 2: {% if x %} is never closed"):
        render("\n{% if x %}\n")
    with pytest.raises(TemplateError, match="unexpected {% endif %}"):
        render("{% endif %}")
    with pytest.raises(TemplateError, match="unexpected {% else %}"):
        render("{% if x %}{% else %}{% else %}{% endif %}")
