"""Users in the administration."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import BaseUserCreationForm
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from accounts import browsers, factors
from accounts.admin.mail_previews import MailPreviews
from accounts.deletion import LastSuperuser, ask_by_administrator
from accounts.door import sensitive
from accounts.email_change import follow_administrator
from accounts.events import Kind, Outcome, record
from accounts.models import User
from accounts.personal_data import registered
from accounts.sessions import end_sessions
from accounts.tasks import send_password_changed_email, send_welcome_email


class UserCreationForm(BaseUserCreationForm[User]):
    """A user made by an administrator."""

    class Meta:
        model = User
        fields = ("email", "display_name", "language")
        field_classes: dict[str, type] = {}


RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")


class DeletionFilter(admin.SimpleListFilter):
    """Filters by whether a deletion was asked for, by the user or by an administrator."""

    title = _("deletion")
    parameter_name = "deletion"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices beside all."""
        return [("yes", _("will be deleted")), ("no", _("stays"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        """Return the users of the choice."""
        chosen = {"yes": False, "no": True}.get(self.value() or "")
        return queryset if chosen is None else queryset.filter(delete_after__isnull=chosen)


@admin.register(User)
class UserAdmin(DjangoUserAdmin[User]):
    """Django's, without a username. Whoever may change users gets no further by it: rights are given by a superuser,
    who alone changes and deletes those who have them.
    """

    add_form = UserCreationForm
    list_display = ("email", "display_name", "email_verified_at", "is_active", "is_staff", "created_at")
    list_filter = ("is_active", "is_staff", "is_superuser", DeletionFilter, "language")
    search_fields = ("email", "display_name")
    ordering = ("-pk",)
    readonly_fields = ("email_verified_at", "last_login", "created_at", "delete_after", "second_factors")
    actions = ("delete_selected", "remove_second_factors")
    fieldsets = (
        (None, {"fields": ("email", "password", "second_factors", "display_name", "language")}),
        (_("Rights"), {"fields": ("is_active", *RIGHTS)}),
        (_("Times"), {"fields": ("created_at", "email_verified_at", "last_login", "delete_after")}),
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
        """Take a changed address for unverified, tell both addresses, and end the sessions of the user.

        A new user is mailed the link without which nobody logs in.
        """
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
            send_welcome_email.enqueue(obj.pk)
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
        """Ask, and let a user be erased."""
        return sensitive(self._ask_and_delete)(request, *args, **kwargs)

    def _ask_and_delete(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, {**(extra_context or {}), **_what_is_erased()})
        except LastSuperuser:  # which has rolled back the line in the log of the administration
            self._refuse_deletion(request, int(unquote(object_id)))
            return redirect("admin:accounts_user_changelist")

    def _refuse_deletion(self, request: HttpRequest, user_id: int) -> None:
        record(Kind.DELETION_ASKED, request, user_id, Outcome.REFUSED)
        text = gettext("The last administrator who can manage everything here cannot be deleted.")
        self.message_user(request, text, messages.ERROR)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[Any, int], set[Any], list[str]]:
        """Return the users alone: what goes with them is not found by Django's rules, see `accounts.erasure`."""
        is_lacking = not all(self.has_delete_permission(request, user) for user in objs)
        lacking = {self.opts.verbose_name} if is_lacking else set()
        return [str(user) for user in objs], {self.opts.verbose_name_plural: len(objs)}, lacking, []

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
        """Let a user be erased, in the background. Raises LastSuperuser."""
        ask_by_administrator(obj, request)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Let users be erased. Raises LastSuperuser."""
        for user in queryset:
            self.delete_model(request, user)

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: int) -> HttpResponse:
        """Say what happens to the account, and go back to the list."""
        self._say_deleted(request, 1)
        return redirect("admin:accounts_user_changelist")

    @admin.action(description=delete_selected.short_description, permissions=["delete"])  # type: ignore[attr-defined]  # of an action
    def delete_selected(self, request: HttpRequest, users: QuerySet[User]) -> HttpResponse | None:
        """Ask, and let the chosen users be erased, but for one that is the last superuser."""
        if not request.POST.get("post") or not all(self.has_delete_permission(request, user) for user in users):
            page = delete_selected(self, request, users)  # Django's, which asks or refuses
            assert isinstance(page, TemplateResponse)
            page.context_data = {**(page.context_data or {}), **_what_is_erased()}
            return page
        count = 0
        for user in users:
            try:
                with transaction.atomic():
                    self.log_deletions(request, User.objects.filter(pk=user.pk))
                    self.delete_model(request, user)
            except LastSuperuser:
                self._refuse_deletion(request, user.pk)
            else:
                count += 1
        if count:
            self._say_deleted(request, count)
        return None

    def _say_deleted(self, request: HttpRequest, count: int) -> None:
        text = ngettext(
            "%(count)s account is closed. What is stored about its user is being erased.",
            "%(count)s accounts are closed. What is stored about their users is being erased.",
            count,
        )
        self.message_user(request, text % {"count": count}, messages.SUCCESS)

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


def _what_is_erased() -> dict[str, Any]:
    return {"erased": [data.title for data in registered.values()]}


def _is_in_reach(request: HttpRequest, user: User | None) -> bool:
    return request.user.is_superuser or user is None or not (user.is_staff or user.is_superuser)
