"""`Farm("runpod://ENDPOINT_ID")`: the jobs of a serverless endpoint, or of a gateway.

What such a farm cannot do, because the endpoint keeps no registry that a client can read: list jobs
that this machine has not submitted, show a video while it grows, report on webhooks, recover jobs
and remove objects.
"""
