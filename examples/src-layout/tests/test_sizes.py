"""Left alone by builds: importing this there would fail."""

import pytest
from gallery.sizes import crop


@pytest.mark.parametrize("width", [100, 200])
def test_crop(width: int) -> None:
    assert crop(width, 100, 1.0)[3] == 100
