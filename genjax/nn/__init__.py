"""Arrays to arrays: operations, layers, augmentation."""
