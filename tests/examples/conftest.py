"""The parts of the end-to-end tests that the examples need, too."""

from tests.e2e.conftest import mail_server, make_site, static_files

__all__ = ["mail_server", "make_site", "static_files"]
