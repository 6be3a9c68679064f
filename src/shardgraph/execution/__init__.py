"""Where the work of fitting nodes runs."""
