"""The suites run with Lockstep's own plugin, whether the package is installed or only checked out."""

pytest_plugins = ["harness.plugin"]
