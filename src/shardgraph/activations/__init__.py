"""A frozen encoder, run once per image, and the files that keep its output."""
