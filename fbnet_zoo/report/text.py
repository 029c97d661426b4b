"""Formatting of numbers for pages, with units and a readable number of digits."""

from datetime import UTC, datetime

NOTHING = "\N{EN DASH}"
"""Placeholder for missing values."""

TIMES = "\N{MULTIPLICATION SIGN}"

_FINE, _MIDDLE, _MANY = 1, 100, 1000


def milliseconds(value: float | None) -> str:
    """Return a time as text.

    >>> milliseconds(0.0421), milliseconds(12.345), milliseconds(1234.5)
    ('0.042 ms', '12.35 ms', '1234.5 ms')
    """
    return NOTHING if value is None else f"{bare_milliseconds(value)} ms"


def bare_milliseconds(value: float) -> str:
    """Return a time without its unit, for columns that have it in the header."""
    digits = 3 if value < _FINE else 2 if value < _MIDDLE else 1
    return f"{value:.{digits}f}"


def amount(value: float, unit: str) -> str:
    """Return a cost of a network in its unit, with at least three digits unless it is a count.

    >>> amount(0.02817, "ms"), amount(12.345, "ms"), amount(4811776, "MACs"), amount(0.5, "mJ")
    ('0.0282 ms', '12.35 ms', '4.81 M MACs', '0.5 mJ')
    """
    if unit == "ms":
        return f"{value:.3g} ms" if 0 < value < _FINE else milliseconds(value)
    counted_ = value >= _MANY or value == round(value)
    return f"{short_count(round(value)) if counted_ else f'{value:.4g}'} {unit}".rstrip()


def duration(seconds: float) -> str:
    """Return a duration as text.

    >>> duration(8.44), duration(754), duration(7530)
    ('8.4 s', '12 min 34 s', '2 h 5 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def megabytes(size: float) -> str:
    """Return a size in bytes as MB of 10^6 bytes.

    >>> megabytes(19275928), megabytes(4096)
    ('19.28 MB', '0.004 MB')
    """
    return f"{size / 1e6:.2f} MB" if size >= 1e4 else f"{size / 1e6:.3f} MB"


def memory(megabytes_: float | None) -> str:
    """Return an amount of memory, given in MB.

    >>> memory(143.25)
    '143.2 MB'
    """
    return NOTHING if megabytes_ is None else f"{megabytes_:.1f} MB"


def short_count(count: int) -> str:
    """Return a large count in thousands, millions or billions.

    >>> short_count(291004424), short_count(4818216), short_count(4200), short_count(999)
    ('291 M', '4.82 M', '4.20 k', '999')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.0f} {unit}" if count >= 99.95 * size else f"{count / size:#.3g} {unit}"
    return str(count)


def share(value: float) -> str:
    """Return a fraction in percent.

    >>> share(0.0421), share(1), share(0.00003), share(0)
    ('4.2 %', '100.0 %', '< 0.1 %', '0.0 %')
    """
    return "< 0.1 %" if 0 < value < 0.0005 else f"{100 * value:.1f} %"


def by(*sizes: int) -> str:
    """Return sizes as a product.

    >>> by(16, 7, 7) == f"16 {TIMES} 7 {TIMES} 7"
    True
    """
    return f" {TIMES} ".join(str(size) for size in sizes)


def decibels(value: float) -> str:
    """Return a ratio in dB as text.

    >>> decibels(115.473)
    '115.5 dB'
    """
    return f"{value:.1f} dB"


def day(when: datetime | str) -> str:
    """Return date and time to the minute, in UTC; text that is not a date stays unchanged.

    >>> day("2026-11-21T02:52:14+00:00"), day("once")
    ('2026-11-21 02:52 UTC', 'once')
    """
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when).astimezone(UTC)
        except (ValueError, OverflowError):  # the first and last day have no UTC in some zones
            return str(when)
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun in the right number.

    >>> counted(1, "run"), counted(20, "run"), counted(2, "entry", "entries")
    ('1 run', '20 runs', '2 entries')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def versions(records: list[dict[str, str]]) -> str:
    """Return the versions of all libraries; several for those that differ between records.

    >>> versions([{"torch": "2.13.0"}, {"torch": "2.13.0", "onnx": "1.23.2"}, {"onnx": "1.20"}])
    'onnx 1.20 and 1.23.2, torch 2.13.0'
    """
    seen: dict[str, set[str]] = {}
    for record in records:
        for library, version in record.items():
            seen.setdefault(library, set()).add(version)
    return ", ".join(f"{library} {' and '.join(sorted(seen[library]))}" for library in sorted(seen))
