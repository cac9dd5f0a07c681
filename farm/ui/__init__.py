"""The web page for making videos, built with Gradio on `farm.client.Farm` alone."""
