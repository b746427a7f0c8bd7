"""What only tests of ports share."""

from tests.closing import transports_end  # noqa: F401 - for every test
