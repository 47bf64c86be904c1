"""The addresses of the site with DEBUG on."""

from django.urls import include, path

from config.urls import urlpatterns as site

urlpatterns = [*site, path("dev/mail/", include("devmail.urls"))]
