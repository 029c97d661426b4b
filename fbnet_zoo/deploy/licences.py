"""What the licences of weights ask, in short."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """A licence.

    Attributes:
        title: its full name.
        asks: what it asks of whoever passes the weights on or uses them, one sentence each.
        text: where it can be read.
        commercial: whether it allows commercial use.
    """

    title: str
    asks: tuple[str, ...]
    text: str
    commercial: bool


LICENCES = {
    "CC-BY-NC-4.0": Licence(
        title="Creative Commons Attribution-NonCommercial 4.0 International",
        asks=(
            "Not for commercial use.",
            "Name the creator and the source, keep the notices and link to the licence wherever the weights go.",
            "Say that they were changed: converted files are changed ones.",
        ),
        text="https://creativecommons.org/licenses/by-nc/4.0/legalcode",
        commercial=False,
    ),
    "CC-BY-4.0": Licence(
        title="Creative Commons Attribution 4.0 International",
        asks=(
            "Name the creator and the source, keep the notices and link to the licence wherever the weights go.",
            "Say that they were changed: converted files are changed ones.",
        ),
        text="https://creativecommons.org/licenses/by/4.0/legalcode",
        commercial=True,
    ),
    "Apache-2.0": Licence(
        title="Apache License 2.0",
        asks=(
            "Pass the text of the licence on with the weights, and the NOTICE file of their source if it has one.",
            "Keep its copyright notices, and say that the weights were changed: converted files are changed ones.",
        ),
        text="https://www.apache.org/licenses/LICENSE-2.0",
        commercial=True,
    ),
    "MIT": Licence(
        title="MIT License",
        asks=("Pass the copyright notice of the source and the text of the licence on with the weights.",),
        text="https://opensource.org/license/mit",
        commercial=True,
    ),
}
"""By SPDX identifier."""


def find(name: str | None) -> Licence | None:
    """Return a licence by its SPDX identifier, however it is capitalised; `None` for others.

    >>> find("apache-2.0").title
    'Apache License 2.0'
    """
    return next((licence for key, licence in LICENCES.items() if name and key.lower() == name.lower()), None)
