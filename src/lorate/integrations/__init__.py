"""lorate inside other people's training loops."""
