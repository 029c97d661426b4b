"""Requirements of the licenses of weights, in short."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class License:
    """A license.

    Attributes:
        title: full name.
        requirements: what it requires of those who distribute or use the weights, one sentence each.
        text: URL of its text.
        commercial: whether it allows commercial use.
    """

    title: str
    requirements: tuple[str, ...]
    text: str
    commercial: bool


LICENSES = {
    "CC-BY-NC-4.0": License(
        title="Creative Commons Attribution-NonCommercial 4.0 International",
        requirements=(
            "Not for commercial use.",
            "Credit the creator and the source, keep the notices and link to the license wherever you share them.",
            "State that they were modified: converted files are modified ones.",
        ),
        text="https://creativecommons.org/licenses/by-nc/4.0/legalcode",
        commercial=False,
    ),
    "CC-BY-4.0": License(
        title="Creative Commons Attribution 4.0 International",
        requirements=(
            "Credit the creator and the source, keep the notices and link to the license wherever you share them.",
            "State that they were modified: converted files are modified ones.",
        ),
        text="https://creativecommons.org/licenses/by/4.0/legalcode",
        commercial=True,
    ),
    "Apache-2.0": License(
        title="Apache License 2.0",
        requirements=(
            "Include the license text with the weights, and the NOTICE file of their source if there is one.",
            "Keep the copyright notices, and state that the weights were modified: converted files are modified ones.",
        ),
        text="https://www.apache.org/licenses/LICENSE-2.0",
        commercial=True,
    ),
    "MIT": License(
        title="MIT License",
        requirements=("Include the copyright notice of the source and the license text with the weights.",),
        text="https://opensource.org/license/mit",
        commercial=True,
    ),
}
"""Licenses by SPDX identifier."""


def find(name: str | None) -> License | None:
    """Return a license by its SPDX identifier, ignoring case; `None` if it is not listed here.

    >>> find("apache-2.0").title
    'Apache License 2.0'
    """
    return next((found for key, found in LICENSES.items() if name and key.lower() == name.lower()), None)
