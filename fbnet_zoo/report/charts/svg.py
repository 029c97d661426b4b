"""SVG as text: one function that writes an element, escaped and with short numbers."""

from markupsafe import Markup, escape

Attribute = str | float | None


def element(name: str, *children: str, **attributes: Attribute) -> Markup:
    """Return an element; text among the children is escaped, and attributes that are `None` are left out.

    An underscore in an attribute's name stands for a hyphen, one at its end for nothing.

    >>> element("text", "a < b", x=1.0, text_anchor="end", class_="label")
    Markup('<text x="1" text-anchor="end" class="label">a &lt; b</text>')
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join(children)
    return Markup(f"<{name}{said}>{inside}</{name}>" if children else f"<{name}{said}/>")  # noqa: S704  escaped above


def picture(
    *children: str, label: str, height: float, width: float | None = None, class_: str = "", title: str | None = None
) -> Markup:
    """Return a picture that a screen reader announces as `label`.

    Args:
        children: what is drawn.
        label: what the picture says, in words.
        height: px.
        width: px; `None` fills what it stands in, so that sizes inside in percent stretch while text does not.
        class_: for the style sheet.
        title: shown under the pointer.
    """
    tip = (element("title", title),) if title else ()
    across = "100%" if width is None else width
    return element(
        "svg", *tip, *children, role="img", aria_label=label, width=across, height=height, class_=class_ or None
    )


def percent(share: float) -> str:
    """Write a share as a length of SVG.

    >>> percent(1 / 3)
    '33.333%'
    """
    return f"{_short(100 * share)}%"


def _value(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else _short(value)


def _short(number: float) -> str:
    return f"{number:.3f}".rstrip("0").rstrip(".")
