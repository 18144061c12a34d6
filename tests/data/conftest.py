"""The fixture of these tests: every refusal is one line of the expected type."""

from collections.abc import Callable

import pytest

Refusal = Callable[..., str]


@pytest.fixture(scope="session")
def refusal() -> Refusal:
    """Call something that must be refused, and return the sentence."""

    def sentence(call: Callable[[], object], kind: type[Exception] = ValueError) -> str:
        with pytest.raises(kind) as caught:
            call()
        text = str(caught.value)
        assert type(caught.value) is kind
        assert text.splitlines() == [text]
        assert text.isprintable()
        return text

    return sentence
