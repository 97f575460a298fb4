"""Programs that run in a box: sent by the grader as text, standard library only, never read from a tree."""
