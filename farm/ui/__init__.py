"""A page for people: fill in, watch the video grow, take it home. Made of Gradio; talks to `farm.client.Farm` alone."""
