"""What lies on disk: pictures, videos, tensors, and the bounds within which they are read."""
