"""Writing SVG elements, escaped and with short numbers."""

from markupsafe import Markup, escape

Attribute = str | float | None


def element(name: str, *children: str, **attributes: Attribute) -> Markup:
    """Return an element; children of type `str` are escaped, and attributes that are `None` are omitted.

    Underscores in attribute names become hyphens; trailing ones are removed.

    >>> element("text", "a < b", x=1.0, text_anchor="end", class_="label")
    Markup('<text x="1" text-anchor="end" class="label">a &lt; b</text>')
    """
    attributes_text = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join(children)
    start = f"<{name}{attributes_text}"
    return Markup(f"{start}>{inside}</{name}>" if children else f"{start}/>")  # noqa: S704  escaped above


def picture(
    *children: str, label: str, height: float, width: float | None = None, class_: str = "", title: str | None = None
) -> Markup:
    """Return an SVG picture.

    Args:
        children: elements of the picture.
        label: description for screen readers.
        height: height, px.
        width: width, px (default: that of the container, so that sizes in percent stretch while text does not).
        class_: CSS class.
        title: tooltip.
    """
    tip = (element("title", title),) if title else ()
    across = "100%" if width is None else width
    return element(
        "svg", *tip, *children, role="img", aria_label=label, width=across, height=height, class_=class_ or None
    )


def percent(share: float) -> str:
    """Return a fraction as an SVG length.

    >>> percent(1 / 3)
    '33.333%'
    """
    return f"{_short(100 * share)}%"


def _value(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else _short(value)


def _short(number: float) -> str:
    return f"{number:.3f}".rstrip("0").rstrip(".")
