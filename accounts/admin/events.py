"""The log of security events in the administration: to be read only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.events import Kind
from accounts.models import SecurityEvent
from accounts.security_log import kind_in_words
from accounts.user_agents import name_of


class KindFilter(admin.SimpleListFilter):
    """Filters by what happened, without asking the table which kinds it has."""

    title = _("what")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return all kinds."""
        return list(Kind.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[SecurityEvent]) -> QuerySet[SecurityEvent]:
        """Return the events of the chosen kind."""
        return queryset.filter(kind=self.value()) if self.value() in Kind.values else queryset


@admin.register(SecurityEvent)
class SecurityEventAdmin(admin.ModelAdmin[SecurityEvent]):
    """Nobody can add, change or delete an event."""

    list_display = ("at", "what", "outcome", "user", "actor", "address", "browser")
    list_filter = (KindFilter, "outcome")
    list_select_related = ("user", "actor")
    search_fields = ("user__email__exact",)
    search_help_text = _("The whole email address of an account.")
    show_full_result_count = False
    ordering = ("-at", "-pk")
    fields = ("at", "what", "outcome", "user", "actor", "address", "user_agent", "details")

    @admin.display(description=_("what"))
    def what(self, event: SecurityEvent) -> str:
        """Return what happened, in words."""
        return kind_in_words(event.kind)

    @admin.display(description=_("browser"))
    def browser(self, event: SecurityEvent) -> str:
        """Return the name of the browser."""
        return name_of(event.user_agent) or event.user_agent

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: SecurityEvent | None = None) -> bool:
        """Refuse."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: SecurityEvent | None = None) -> bool:
        """Refuse."""
        return False
