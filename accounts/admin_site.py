"""The administration: entered by the login of everybody else, with its second step."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache

from accounts.door import next_url


class AdminSite(admin.AdminSite):
    """Django's, without a login and a form for the password of its own."""

    @method_decorator([login_not_required, never_cache])
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Send people to the login. Who is logged in and comes here nevertheless is not allowed in."""
        target = next_url(request, reverse("admin:index"))
        if target == reverse("admin:logout"):  # the session has ended already; its address takes no GET
            target = reverse("admin:index")
        if self.has_permission(request):
            return HttpResponseRedirect(target)
        if request.user.is_authenticated:
            raise PermissionDenied
        return redirect_to_login(target)

    def password_change(  # type: ignore[override]  # the stubs know of a page only
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Send people to the page that also ends their other sessions and tells them by mail."""
        return redirect("accounts:password_change")
