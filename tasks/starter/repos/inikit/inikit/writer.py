"""A `Config` to text."""


def dumps(config):
    """Text that `loads` reads back to an equal configuration; sections and keys keep their order.

    Values are quoted where they need it: when they begin or end with white space or hold a comment sign after
    white space. Further lines of a value are indented by four spaces. Values that hold a quote, or an empty line
    between others, cannot be written: ValueError.
    """
    blocks = []
    for section in config.sections():
        lines = [f"[{section}]"]
        for key in config.keys(section):
            lines += _entry(key, config.raw(section, key))
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _entry(key, value):
    if '"' in value:
        raise ValueError(f"the value of {key!r} holds a quote: {value!r}")
    first, *rest = value.split("\n")
    if not all(rest):
        raise ValueError(f"the value of {key!r} holds an empty line: {value!r}")
    yield f"{key} = {_quoted(first)}".rstrip()
    for line in rest:
        yield f"    {_quoted(line)}"


def _quoted(text):
    comment = any(
        sign in text and (text[0] == sign or f" {sign}" in text or f"\t{sign}" in text) for sign in "#;"
    )
    return f'"{text}"' if comment or text != text.strip() else text
