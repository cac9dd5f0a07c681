"""Metrics and health checks: the exporter, the metrics of workers, the doctor."""
