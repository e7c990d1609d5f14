"""``manage.py test`` with ``--integration``."""
