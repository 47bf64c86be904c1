"""Addresses under /examples/."""

from django.urls import path

from examples import views

app_name = "examples"
urlpatterns = [path("visits/<slug:name>/", views.visits, name="visits")]
