"""Settings: variables come from the environment file's [env]."""

import os

SECRET_KEY = os.environ.get("SECRET_KEY", "for-development-only")
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
