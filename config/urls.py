"""The addresses of the site. Everything asks for a login unless its view says otherwise."""

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.urls import include, path
from django.utils.translation import gettext_lazy as _
from django.views.generic import TemplateView
from django.views.i18n import set_language

admin.site.site_header = admin.site.site_title = _("Steward administration")

urlpatterns = [
    path("", login_not_required(TemplateView.as_view(template_name="home.html")), name="home"),
    path("accounts/", include("accounts.urls")),
    path("admin/", admin.site.urls),
    path("health/", include("tasks.urls")),
    path("language/", login_not_required(set_language), name="set_language"),
]
if settings.DEBUG:
    urlpatterns += [path("dev/mail/", include("devmail.urls"))]
if settings.EXAMPLES:
    urlpatterns += [path("examples/", include("examples.urls"))]
