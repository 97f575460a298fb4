from stencil import render


def test_angle_brackets_and_ampersands():
    assert render("{{ x }}", {"x": "<b>"}) == "&lt;b&gt;"
    assert render("{{ x }}", {"x": "a & b"}) == "a &amp; b"


def test_filtered_values_are_escaped():
    assert render("{{ x | upper }}", {"x": "<i>"}) == "&lt;I&gt;"


def test_safe_and_switched_off():
    assert render("{{ x | safe }}", {"x": "<b>"}) == "<b>"
    assert render("{{ x }}", {"x": "<b>"}, escape=False) == "<b>"


def test_template_text_is_left_alone():
    assert render('<p class="x">&copy;</p>') == '<p class="x">&copy;</p>'
