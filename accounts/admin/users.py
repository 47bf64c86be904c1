"""Users in the administration."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import BaseUserCreationForm
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from accounts import browsers, factors
from accounts.admin.mail_previews import MailPreviews
from accounts.door import sensitive
from accounts.email_change import follow_administrator
from accounts.events import Kind, record
from accounts.models import User
from accounts.sessions import end_sessions
from accounts.tasks import send_password_changed_email


class UserCreationForm(BaseUserCreationForm[User]):
    """A user made by an administrator."""

    class Meta:
        model = User
        fields = ("email", "display_name", "language")
        field_classes: dict[str, type] = {}


RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")


@admin.register(User)
class UserAdmin(DjangoUserAdmin[User]):
    """Django's, without a username. Whoever may change users gets no further by it: rights are given by a superuser,
    who alone changes and deletes those who have them.
    """

    add_form = UserCreationForm
    list_display = ("email", "display_name", "email_verified_at", "is_active", "is_staff", "created_at")
    list_filter = ("is_active", "is_staff", "is_superuser", "language")
    search_fields = ("email", "display_name")
    ordering = ("-pk",)
    readonly_fields = ("email_verified_at", "last_login", "created_at", "second_factors")
    actions = ("remove_second_factors",)
    fieldsets = (
        (None, {"fields": ("email", "password", "second_factors", "display_name", "language")}),
        (_("Rights"), {"fields": ("is_active", *RIGHTS)}),
        (_("Times"), {"fields": ("created_at", "email_verified_at", "last_login")}),
    )
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("email", "display_name", "language", "password1", "password2")}),
    )

    def get_urls(self) -> list[URLPattern]:
        """Add the previews of mails."""
        return MailPreviews(self.admin_site).get_urls() + super().get_urls()

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Return what this operator can only read: their own rights too, so that there always is a superuser."""
        if obj is not None and obj.pk == request.user.pk:
            return (*self.readonly_fields, "is_active", *RIGHTS)
        return self.readonly_fields if request.user.is_superuser else (*self.readonly_fields, *RIGHTS)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Return whether the operator may change users, or this one, whose password and address may lead to rights."""
        return super().has_change_permission(request, obj) and _is_in_reach(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Return the same for a deletion. One's own begins on the page of the account."""
        is_own = obj is not None and obj.pk == request.user.pk
        return super().has_delete_permission(request, obj) and _is_in_reach(request, obj) and not is_own

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Take a changed address for unverified, tell both addresses, and end the sessions of the user."""
        before = None
        if change and "email" in form.changed_data:
            before = User.objects.select_for_update(no_key=True).get(pk=obj.pk)
        is_another = before is not None and before.email != obj.email  # not only spelt otherwise
        if is_another:
            obj.email_verified_at = None
        super().save_model(request, obj, form, change)
        if before is not None and is_another:
            follow_administrator(obj, before, request)
        if not change:
            record(Kind.CHANGED_BY_ADMINISTRATOR, request, obj, is_new=True)
        elif form.changed_data:
            record(Kind.CHANGED_BY_ADMINISTRATOR, request, obj, fields=form.changed_data)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list; ask for the password again before an action."""
        view = super().changelist_view
        return (sensitive(view) if request.method == "POST" else view)(request, extra_context)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the form, of a new user or of one that is there: it can give somebody the rights of an administrator."""
        return sensitive(super().changeform_view)(request, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Ask, and delete a user."""
        return sensitive(super().delete_view)(request, *args, **kwargs)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002 - Django's name
        """Let an administrator set a password, which ends the sessions of the user and is told to them by mail."""
        return sensitive(self._set_password)(request, id, form_url)

    def _set_password(self, request: HttpRequest, id: str, form_url: str) -> HttpResponse:  # noqa: A002 - as above
        response = super().user_change_password(request, id, form_url)
        if request.method == "POST" and response.status_code == 302:  # it was set; hashing takes no lock
            with transaction.atomic():
                pk = int(unquote(id))  # as Django has read it
                end_sessions(pk, except_key=request.session.session_key)
                browsers.forget(pk)
                if User.objects.filter(pk=pk, is_active=True).exists():
                    send_password_changed_email.enqueue(pk)
                record(Kind.CHANGED_BY_ADMINISTRATOR, request, pk, fields=["password"])
        return response

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        """Delete a user."""
        pk = obj.pk
        super().delete_model(request, obj)
        record(Kind.ACCOUNT_DELETED, request, account=pk)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Delete the chosen users."""
        keys = list(queryset.values_list("pk", flat=True))
        super().delete_queryset(request, queryset)
        for pk in keys:
            record(Kind.ACCOUNT_DELETED, request, account=pk)

    @admin.display(description=_("second factors"))
    def second_factors(self, user: User) -> str:
        """Say what there is, without anything that could be used."""
        return factors.in_words(user)

    def has_remove_second_factors_permission(self, request: HttpRequest) -> bool:
        """Return whether somebody may delete the rows that the action deletes."""
        return request.user.has_perms([f"accounts.delete_{name}" for name in ("totp", "passkey", "recoverycode")])

    @admin.action(description=_("Remove second factors of people who lost them"), permissions=["remove_second_factors"])
    def remove_second_factors(self, request: HttpRequest, users: QuerySet[User]) -> None:
        """Remove all second factors and recovery codes, end the sessions and mail each user.

        Nobody can spare themselves their own this way, and only a superuser can spare another one theirs.
        """
        operator = request.user
        assert isinstance(operator, User)
        if users.filter(pk=operator.pk).exists():
            self.message_user(request, gettext("Your own are on your account page."), messages.ERROR)
        elif not operator.is_superuser and users.filter(is_superuser=True).exists():
            self.message_user(request, gettext("Those of a superuser can be removed by a superuser."), messages.ERROR)
        else:
            count = sum(factors.remove_all(user, request) for user in users)
            text = ngettext("Removed for %(count)s user.", "Removed for %(count)s users.", count) % {"count": count}
            self.message_user(request, text, messages.SUCCESS if count else messages.WARNING)


def _is_in_reach(request: HttpRequest, user: User | None) -> bool:
    return request.user.is_superuser or user is None or not (user.is_staff or user.is_superuser)
