from stencil import Template, render


def test_double_quotes():
    assert render('<a title="{{ t }}">', {"t": 'say "hi"'}) == '<a title="say &quot;hi&quot;">'


def test_single_quotes():
    assert render("<a title='{{ t }}'>", {"t": "it's"}) == "<a title='it&#x27;s'>"


def test_attributes_cannot_be_broken_out_of():
    assert (
        render('<img alt="{{ name }}">', {"name": '" onload="run()'})
        == '<img alt="&quot; onload=&quot;run()">'
    )


def test_everything_together():
    assert Template("{{ x }}").render({"x": "<\"&'>"}) == "&lt;&quot;&amp;&#x27;&gt;"


def test_safe_quotes_stay():
    assert render("{{ x | safe }}", {"x": "\"'"}) == "\"'"


def test_switched_off_quotes_stay():
    assert render("{{ x }}", {"x": "\"'"}, escape=False) == "\"'"
