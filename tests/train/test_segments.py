from gym_code.types import Completion, Stop, Trajectory, Turn
from train.segments import segments_of


def turn(prompt: list[int], said: list[int]) -> Turn:
    return Turn(
        prompt_token_ids=tuple(prompt),
        completion=Completion(
            token_ids=tuple(said), logprobs=tuple(-float(t) for t in said), text="", finish_reason="stop"
        ),
    )


def trajectory(*turns: Turn, stop: Stop = Stop.SUBMITTED) -> Trajectory:
    return Trajectory(task_id="t", task_digest="", group_id="g", turns=turns, stop=stop)


def test_law_2_a_prompt_that_extends_the_stored_tokens_continues_the_segment() -> None:
    made = segments_of(trajectory(turn([1, 2], [3, 4]), turn([1, 2, 3, 4, 9], [5])), 0.5)
    #           P  P  a  a  E  a
    assert [s.token_ids_T for s in made] == [(1, 2, 3, 4, 9, 5)]
    assert made[0].action_mask_T == (0, 0, 1, 1, 0, 1)
    assert made[0].logprobs_T == (0.0, 0.0, -3.0, -4.0, 0.0, -5.0)
    assert made[0].advantages_T == (0.0, 0.0, 0.5, 0.5, 0.0, 0.5)


def test_law_2_a_prompt_that_rewrites_history_starts_a_new_segment() -> None:
    made = segments_of(trajectory(turn([1, 2], [3]), turn([1, 7, 3, 9], [5])), -1.0)
    assert [s.token_ids_T for s in made] == [(1, 2, 3), (1, 7, 3, 9, 5)]
    assert made[1].action_mask_T == (0, 0, 0, 0, 1)


def test_a_trajectory_cut_off_by_a_limit_is_masked_out() -> None:
    assert segments_of(trajectory(turn([1], [2]), stop=Stop.TURNS), 1.0) == []
