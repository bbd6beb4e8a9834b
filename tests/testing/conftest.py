"""What every test of a contract says: a planted mistake is refused, and its cause is named."""

import pytest


@pytest.fixture
def refused():
    def assert_refused(check, plugin, cause):
        with pytest.raises(AssertionError, match=cause) as caught:
            check(plugin)
        assert str(caught.value).startswith(f"{plugin.name}: ")

    return assert_refused
