"""The steps as Celery tasks; `celery -A farm.tasks` finds the application in tasks/celery.py."""
