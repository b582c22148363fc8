"""Reproductions of the papers behind lorate, which this package imports and is never imported by."""
