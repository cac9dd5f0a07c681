"""Many jobs from one file: rows in, a line of results for each as it ends; resumable."""
