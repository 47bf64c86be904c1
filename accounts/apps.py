"""The app."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig
from django.utils.translation import gettext_lazy as _


class AccountsConfig(AppConfig):
    """Accounts."""

    name = "accounts"
    verbose_name = _("Accounts")

    def ready(self) -> None:
        """Register the checks of a deployment."""
        import accounts.checks  # noqa: F401 - importing registers them


class AdminConfig(DjangoAdminConfig):
    """Django's administration."""

    default_site = "accounts.admin_site.AdminSite"
