"""The web page for making videos: Gradio over `farm.client.Farm`, without knowledge of its own."""
