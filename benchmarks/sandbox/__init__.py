"""The sandbox backends beside mini-swe-agent's environments and plain Docker, in one run: see `__main__`."""
