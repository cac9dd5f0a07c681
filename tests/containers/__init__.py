"""The farm in containers: its images, and the faults of its services in Compose."""
