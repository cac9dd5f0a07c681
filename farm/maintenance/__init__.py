"""What an operator runs now and then: recovery from the store, garbage collection."""
