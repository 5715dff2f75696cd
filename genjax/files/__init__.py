"""Files: pictures, videos and arrays, read in bounds and written all or nothing."""
