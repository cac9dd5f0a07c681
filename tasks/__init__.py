"""The steps of the farm as Celery tasks; `celery -A tasks` finds the application in tasks/celery.py."""
