"""Runpod serverless: the handler of its workers, the bridge to an endpoint, the endpoint itself."""
