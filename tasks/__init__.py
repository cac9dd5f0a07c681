"""The steps as Celery tasks; `celery -A tasks` finds the application in tasks/celery.py."""
