"""Who may reach the page."""

from __future__ import annotations

import pytest

from farm.errors import InvalidInput
from farm.ui.serve import open_page


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "farm.example"])
def test_no_page_for_others_without_a_password(host):
    with pytest.raises(InvalidInput, match="FARM_UI_AUTH=user:password"), open_page(None, host=host, port=0, auth=None):
        pytest.fail("it was served")


@pytest.mark.parametrize("auth", ["", "ann", "ann:", ":secret"])
def test_a_password_that_is_none_is_refused_unseen(auth):
    with (
        pytest.raises(InvalidInput, match="FARM_UI_AUTH: got something else; allowed: user:password"),
        open_page(None, host="127.0.0.1", port=0, auth=auth),
    ):
        pytest.fail("it was served")
