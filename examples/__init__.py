"""What to try the farm with: a face, a voice, and the jobs that use them."""
