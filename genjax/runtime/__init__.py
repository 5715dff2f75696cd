"""Between the process and its machine: memory, compilers, caches, logs, the shell."""
