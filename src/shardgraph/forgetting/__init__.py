"""A request, its plan, and carrying it out."""
