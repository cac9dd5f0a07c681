"""A whole farm on one machine: its own broker and workers under one supervisor."""
