"""Addresses under /dev/mail/."""

from django.urls import path

from devmail import views

app_name = "devmail"
urlpatterns = [
    path("", views.inbox, name="inbox"),
    path("<str:key>/", views.mail, name="mail"),
    path("<str:key>/html/", views.html_part, name="html_part"),
]
