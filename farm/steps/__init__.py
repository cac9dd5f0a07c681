"""The four benches of a job, as plain functions: download, embed, generate (once for each chunk), mux."""
