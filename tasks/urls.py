"""Addresses of the probes."""

from django.urls import path

from tasks import views

app_name = "tasks"
urlpatterns = [path("live", views.live, name="live"), path("ready", views.ready, name="ready")]
