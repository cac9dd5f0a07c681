"""How any step is run: its place in the route, its lease, its attempt, its records in the store."""
