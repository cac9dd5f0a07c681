"""The farm's own API: jobs as resources, under /v1."""
