"""A whole farm on one machine, for a laptop or CI: its own broker and workers, nothing to install or to log in to."""
