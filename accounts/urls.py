"""Addresses under /accounts/."""

from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LogoutView
from django.urls import path

from accounts import factor_views, second_step, views

app_name = "accounts"
urlpatterns = [
    path("", views.account, name="account"),
    path("signup/", views.signup, name="signup"),
    path("signup/check-inbox/", views.check_inbox, name="check_inbox"),
    path("verify/resend/", views.resend, name="resend"),
    path("verify/resend/check-inbox/", views.check_inbox, {"about": "resend"}, name="resend_sent"),
    path("verify/<str:token>/", views.verify, name="verify"),
    path("reauthenticate/", views.reauthenticate, name="reauthenticate"),
    path("password-change/", views.password_change, name="password_change"),
    path("password-reset/", views.password_reset, name="password_reset"),
    path("password-reset/check-inbox/", views.check_inbox, {"about": "reset"}, name="password_reset_sent"),
    path("password-reset/<str:token>/", views.new_password, name="new_password"),
    path("login/", views.LoginView.as_view(), name="login"),
    path("login/second-factor/", second_step.second_step, name="second_step"),
    path("second-factor/", factor_views.second_factors, name="second_factors"),
    path("second-factor/app/", factor_views.app, name="app"),
    path("second-factor/app/qr.svg", factor_views.app_qr, name="app_qr"),
    path("second-factor/app/remove/", factor_views.app_remove, name="app_remove"),
    path("second-factor/recovery-codes/", factor_views.recovery_codes, name="recovery_codes"),
    # open: else a logout after the session has ended leads by way of the login to a GET, which is not allowed
    path("logout/", login_not_required(LogoutView.as_view()), name="logout"),
]
