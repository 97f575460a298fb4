"""gym-code: a reinforcement-learning gym for coding agents.

>>> import gymnasium, gym_code
>>> env = gymnasium.make("RepoFix-v0")
"""

from __future__ import annotations

from gym_code.registration import register_envs_lazily
from gym_code.task import register_suite

__version__ = "0.1.0"

register_envs_lazily()
register_suite("procedural", "gym_code.synth.procedural:suite")
