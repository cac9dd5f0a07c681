"""HTTP with strangers: guarded connections, downloads, webhooks and their signatures."""
