"""Addresses under /accounts/."""

from django.urls import path

from accounts import (
    deletion,
    email_change,
    export,
    json_login,
    security_log,
    session_views,
    verification,
    views,
)
from accounts.factors import passkey_views
from accounts.factors import views as factor_views

app_name = "accounts"
urlpatterns = [
    path("", views.account, name="account"),
    path("signup/", views.signup, name="signup"),
    path("signup/check-inbox/", views.check_inbox, name="check_inbox"),
    path("verify/resend/", views.resend, name="resend"),
    path("verify/resend/check-inbox/", views.check_inbox, {"about": "resend"}, name="resend_sent"),
    path("verify/<str:token>/", verification.verify, name="verify"),
    path("disown/<str:token>/", verification.disown, name="disown"),
    path("reauthenticate/", views.reauthenticate, name="reauthenticate"),
    path("security/", security_log.security_log, name="security_log"),
    path("email-change/", email_change.email_change, name="email_change"),
    path("email-change/confirm/<str:token>/", email_change.confirm_page, name="confirm_email_change"),
    path("email-change/undo/<str:token>/", email_change.undo_page, name="undo_email_change"),
    path("sessions/", session_views.sessions, name="sessions"),
    path("password-change/", views.password_change, name="password_change"),
    path("password-reset/", views.password_reset, name="password_reset"),
    path("password-reset/check-inbox/", views.check_inbox, {"about": "reset"}, name="password_reset_sent"),
    path("password-reset/<str:token>/", views.new_password, name="new_password"),
    path("export/", export.export, name="export"),
    path("export/progress/", export.export_progress, name="export_progress"),
    path("delete/", deletion.delete_account, name="delete"),
    path("keep/", deletion.keep_account, name="keep"),
    path("login/", json_login.login, name="login"),
    path("login/second-factor/", json_login.second_factor, name="second_step"),
    path("login/second-factor/passkey/", passkey_views.second_step_with_passkey, name="second_step_with_passkey"),
    path("login/second-factor/passkey/options/", passkey_views.second_step_options, name="second_step_options"),
    path("login/passkey/", passkey_views.log_in_with_passkey, name="log_in_with_passkey"),
    path("login/passkey/options/", passkey_views.log_in_options, name="log_in_options"),
    path("reauthenticate/passkey/", passkey_views.reauthenticate_with_passkey, name="reauthenticate_with_passkey"),
    path("reauthenticate/passkey/options/", passkey_views.reauthenticate_options, name="reauthenticate_options"),
    path("second-factor/passkeys/add/", passkey_views.add, name="passkey_add"),
    path("second-factor/passkeys/add/options/", passkey_views.add_options, name="passkey_add_options"),
    path("second-factor/passkeys/<int:passkey_id>/", passkey_views.rename, name="passkey_rename"),
    path("second-factor/passkeys/<int:passkey_id>/remove/", passkey_views.remove, name="passkey_remove"),
    path("second-factor/", factor_views.second_factors, name="second_factors"),
    path("second-factor/app/", factor_views.app, name="app"),
    path("second-factor/app/qr.svg", factor_views.app_qr, name="app_qr"),
    path("second-factor/app/remove/", factor_views.app_remove, name="app_remove"),
    path("second-factor/recovery-codes/", factor_views.recovery_codes, name="recovery_codes"),
    # open: else a logout after the session has ended leads by way of the login to a GET, which is not allowed
    path("logout/", json_login.logout, name="logout"),
]
