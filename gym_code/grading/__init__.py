"""From a patch to a reward nobody can forge: plan, run, verdict, reward."""
