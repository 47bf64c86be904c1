"""Users in the administration."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import BaseUserCreationForm
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.models import User


class UserCreationForm(BaseUserCreationForm[User]):
    """A user made by an administrator."""

    class Meta:
        model = User
        fields = ("email", "display_name", "language")
        field_classes: dict[str, type] = {}


@admin.register(User)
class UserAdmin(DjangoUserAdmin[User]):
    """Django's, without a username."""

    add_form = UserCreationForm
    list_display = ("email", "display_name", "email_verified_at", "is_active", "is_staff", "created_at")
    list_filter = ("is_active", "is_staff", "is_superuser", "language")
    search_fields = ("email", "display_name")
    ordering = ("-pk",)
    readonly_fields = ("email_verified_at", "last_login", "created_at")
    fieldsets = (
        (None, {"fields": ("email", "password", "display_name", "language")}),
        (_("Rights"), {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        (_("Times"), {"fields": ("created_at", "email_verified_at", "last_login")}),
    )
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("email", "display_name", "language", "password1", "password2")}),
    )

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Take a changed address for unverified."""
        if change and "email" in form.changed_data:
            obj.email_verified_at = None
        super().save_model(request, obj, form, change)
