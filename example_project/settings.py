"""Settings of the shop, as a developer writes them: local servers, overridable by environment."""

import os
import sys
from decimal import Decimal
from pathlib import Path

BASE_DIR = Path(__file__).parent

TESTING = "test" in sys.argv or "PYTEST_VERSION" in os.environ

SECRET_KEY = os.environ.get("SECRET_KEY", "only-for-development")
DEBUG = os.environ.get("DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost").split(",")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "itkit",
    "example_project.shop",
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
USE_TZ = True

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("POSTGRES_DB", "shop"),
        "USER": os.environ.get("POSTGRES_USER", "shop"),
        "PASSWORD": os.environ.get("POSTGRES_PASSWORD", "shop"),
        "HOST": os.environ.get("POSTGRES_HOST", "localhost"),
        "PORT": os.environ.get("POSTGRES_PORT", "5432"),
    }
}

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ.get("REDIS_URL", "redis://localhost:6379/1"),
        "TIMEOUT": 300,
    }
}

SESSION_ENGINE = "django.contrib.sessions.backends.cache"

AUTH_USER_MODEL = "shop.User"

if TESTING:
    # The default hasher is slow on purpose, which a hundred test users should not have to wait for.
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

VAT_RATE = Decimal("0.20")

# What lies outside the shop: each gateway by its dotted path, and where it finds its other end.
PAYMENT_GATEWAY = "example_project.shop.gateways.payment.PaymentGateway"
PAYMENT_URL = os.environ.get("PAYMENT_URL", "https://payments.example/v1")
PAYMENT_KEY = os.environ.get("PAYMENT_KEY", "")

EMAIL_GATEWAY = "example_project.shop.gateways.email.EmailGateway"
SMTP_HOST = os.environ.get("SMTP_HOST", "localhost")
SMTP_PORT = int(os.environ.get("SMTP_PORT", "25"))
SHOP_EMAIL = "shop@example.com"

SMS_URL = os.environ.get("SMS_URL", "https://sms.example/v1")
SMS_KEY = os.environ.get("SMS_KEY", "")

SHIPPING_PROVIDER = "example_project.shop.gateways.shipping.ShippingProvider"
SHIPPING_URL = os.environ.get("SHIPPING_URL", "https://parcels.example/v1")
SHIPPING_KEY = os.environ.get("SHIPPING_KEY", "")

ITKIT = {
    "BACKENDS": {
        "payments": {"SETTING": "PAYMENT_GATEWAY"},
        "email": {"SETTING": "EMAIL_GATEWAY"},
        "sms": {"TARGET": "example_project.shop.gateways.sms.SMSGateway"},
        "shipping": {"SETTING": "SHIPPING_PROVIDER"},
    },
    # A test fails where something leaves the shop that a rollback could not take back.
    "EFFECTS": "fail",
}
