"""Where the bytes of uploaded files are: one interface, kept in a directory or in S3."""
