"""What the manifests are checked for, besides what `kubectl` itself finds while it renders them."""
