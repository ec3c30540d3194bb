"""Building Horovod 0.28.1 from source for the frameworks that are installed: ``python -m harness.horovod_build``."""
