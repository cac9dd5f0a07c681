"""HTTP to the outside: guarded downloads and webhooks, signatures, addresses of pages."""
