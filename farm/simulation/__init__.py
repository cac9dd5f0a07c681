"""A farm of any size as discrete events: what it would cost, and how long callers would wait."""
