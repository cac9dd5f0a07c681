"""The Celery side: the application, the dispatch of steps, the inspection of queues."""
