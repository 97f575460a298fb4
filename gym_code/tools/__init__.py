"""What an agent can do in an episode: one module a tool."""
