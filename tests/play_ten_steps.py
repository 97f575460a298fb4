"""Makes an env on each suite named, resets it and takes ten steps. Run by `test_users`, as two users."""

from __future__ import annotations

import json
import os
import sys

import gymnasium

import gym_code  # noqa: F401  (registers the ids)

STEPS = (
    ("bash", {"command": "id -u && git log --oneline | wc -l"}),
    ("view", {"path": "."}),
    ("search", {"pattern": "def ", "kind": "text"}),
    ("search", {"pattern": "*", "kind": "symbol"}),
    ("test", {}),
    ("write", {"path": "note.txt", "content": "größe \U0001f40d\n"}),
    ("edit", {"path": "note.txt", "old": "größe", "new": "size"}),
    ("view", {"path": "note.txt"}),
    ("fly", {}),
    ("submit", {}),
)


def main() -> None:
    played = {}
    for suite in sys.argv[1:]:
        env = gymnasium.make("RepoFix-v0", suite=suite, sandbox="namespace")
        _, info = env.reset(seed=0)
        said = []
        for name, arguments in STEPS:
            action = {"name": name, "arguments": json.dumps(arguments)}
            observation, reward, terminated, _, last = env.step(action)
            said.append(observation["content"])
        played[suite] = [info["task_id"], reward, terminated, last["reward_valid"], said]
        env.close()
    print(json.dumps([os.getuid(), played]))


if __name__ == "__main__":
    main()
