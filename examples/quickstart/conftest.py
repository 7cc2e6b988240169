pytest_plugins = ["meshvisor.testing.pytest"]
