"""What goes in: samples with an owner and a source, from folders, manifests or arrays."""
