"""What `lorate` offers on the command line from this package."""
