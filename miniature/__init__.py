"""How the small model was made: voices, faces, training; nothing that a farm runs imports it."""
