"""The program that trained the small model: voices, faces, training.

Nothing that a farm runs imports it.
"""
