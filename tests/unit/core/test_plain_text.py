"""What stands in a line that people read."""

import pytest

from inferd.core.plain_text import digits


@pytest.mark.parametrize(
    ("value", "count", "text"),
    [(140.3, 2, "140"), (0.01234, 2, "0.012"), (99.6, 2, "100"), (1234.5, 3, "1230"), (0.0, 2, "0")],
)
def test_a_number_of_few_digits_has_no_exponent(value, count, text):
    assert digits(value, count) == text
