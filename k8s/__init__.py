"""Kubernetes manifests, how they are generated, and what they are checked for."""
