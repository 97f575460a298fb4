"""From trajectories to what the trainer eats, without tokenising anything again (law 2)."""

from __future__ import annotations

from dataclasses import replace

from gym_code.types import Segment, Stop, Trajectory


def segments_of(trajectory: Trajectory, advantage: float) -> list[Segment]:
    """The segments of one episode.

    A turn whose prompt extends the tokens stored so far continues the segment; any other begins a new one:

        turn 1   prompt P P        completion a a
        turn 2   prompt P P a a E  completion a       ->  one segment   P P a a E a
        turn 3   prompt Q Q        completion b       ->  another       Q Q b

    Turns without a completion, and trajectories that a limit cut off, give nothing.
    """
    if trajectory.stop is not Stop.SUBMITTED:
        return []
    made: list[Segment] = []
    for turn in trajectory.turns:
        if turn.completion is None:
            continue
        prompt = turn.prompt_token_ids
        if not made or prompt[: len(made[-1].token_ids_T)] != made[-1].token_ids_T:
            made.append(
                Segment(
                    task_id=trajectory.task_id,
                    group_id=trajectory.group_id,
                    token_ids_T=(),
                    action_mask_T=(),
                    logprobs_T=(),
                    advantages_T=(),
                    policy_version=turn.completion.policy_version,
                )
            )
        last = made[-1]
        seen = len(prompt) - len(last.token_ids_T)
        said = len(turn.completion.token_ids)
        made[-1] = replace(
            last,
            token_ids_T=prompt + turn.completion.token_ids,
            action_mask_T=(*last.action_mask_T, *[0] * seen, *[1] * said),
            logprobs_T=(*last.logprobs_T, *[0.0] * seen, *turn.completion.logprobs),
            advantages_T=(*last.advantages_T, *[0.0] * seen, *[advantage] * said),
        )
    return made
