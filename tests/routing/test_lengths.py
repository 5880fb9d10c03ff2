"""How long prompts and answers will be, and what of a conversation is in a vendor's cache."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.types import Usage
from routing.lengths import OUTPUT, REASONING, Conversations, Length, Lengths
from routing.tasks import TASKS


def test_every_task_has_a_length_before_any_answer_was_seen() -> None:
    assert set(OUTPUT) == set(TASKS)
    assert Length().output("autocomplete") < Length().output("chat") < Length().output("reasoning")


def test_a_task_of_ones_own_is_as_long_as_any() -> None:
    assert Length().output("poetry") == Length().output("general")


def test_models_that_reason_by_default_say_more_until_they_are_known() -> None:
    assert Length(reasons=True).output("math") == REASONING * OUTPUT["math"]


def test_answers_teach_the_length_of_their_task() -> None:
    length = Length()
    for _ in range(50):
        length.learn("code", 1000, Usage(input=250, output=90))
    assert length.output("code") == pytest.approx(90, rel=0.2)


def test_a_model_that_says_much_in_one_task_is_expected_to_in_another() -> None:
    length = Length()
    for _ in range(50):
        length.learn("code", 1000, Usage(input=250, output=1200))
    assert length.output("explanation") == pytest.approx(3 * OUTPUT["explanation"], rel=0.2)
    for _ in range(100):
        length.learn("explanation", 1000, Usage(input=250, output=400))
    assert length.output("explanation") == pytest.approx(400, rel=0.2)
    assert length.output("code") == pytest.approx(1200, rel=0.1)


def test_reasoning_is_a_part_of_the_answer_and_never_counts_twice() -> None:
    length = Length()
    for _ in range(200):
        length.learn("math", 1000, Usage(input=250, output=800, reasoning=700))
    assert length.output("math") == pytest.approx(800, rel=0.05)


def test_the_past_is_forgotten_as_answers_come() -> None:
    length = Length()
    for output in (1000, 100):
        for _ in range(400):
            length.learn("chat", 1000, Usage(input=250, output=output))
    assert length.output("chat") == pytest.approx(100, rel=0.2)


def test_prompts_teach_how_a_model_cuts_text_into_tokens() -> None:
    length = Length()
    assert length.tokens_per_char == 0.25
    for _ in range(100):
        length.learn("chat", 3000, Usage(input=400, cache_read=600, output=10))
    assert length.tokens_per_char == pytest.approx(1 / 3, rel=0.02)


def test_prompts_that_are_mostly_images_teach_nothing_of_text() -> None:
    length = Length()
    length.learn("chat", 10, Usage(input=1600, output=10))
    length.learn("chat", 10_000, Usage(input=0, output=10))
    assert length.tokens_per_char == 0.25


def test_models_are_kept_apart_and_outlive_a_configuration() -> None:
    lengths = Lengths()
    for _ in range(50):
        lengths.of("a").learn("chat", 100, Usage(input=25, output=900))
    assert lengths.of("a").output("chat") > 2 * lengths.of("b").output("chat")
    assert lengths.of("a", reasons=True) is lengths.of("a")


@given(st.lists(st.tuples(st.sampled_from(TASKS), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))))
def test_lengths_are_always_finite_and_above_nothing(answers: list[tuple[str, int, int, int]]) -> None:
    length = Length()
    for task, chars, prompt, output in answers:
        length.learn(task, chars, Usage(input=prompt, output=output))
    assert 0 < length.tokens_per_char <= 1
    most = max([1000.0, *(output for *_, output in answers)])
    for task in TASKS:
        assert 0 < length.output(task) <= 200 * most


def test_a_conversation_is_kept_for_five_minutes_where_it_was() -> None:
    talks = Conversations()
    assert talks.kept("a", 0.0) == (None, 0.0)
    talks.served("a", "claude", 4000, 0, 0.0)
    assert talks.kept("a", 299.0) == ("claude", 2000.0)
    assert talks.kept("a", 300.0) == (None, 0.0)
    assert talks.kept("b", 1.0) == (None, 0.0)


def test_short_prompts_are_in_no_cache() -> None:
    talks = Conversations()
    talks.served("a", "claude", 1000, 0, 0.0)
    assert talks.kept("a", 1.0) == (None, 0.0)


def test_bills_teach_how_much_a_vendor_reads_from_its_cache() -> None:
    talks, now = Conversations(), 0.0
    for turn in range(1, 60):
        now += 10
        for model, read in (("good", 2000 * (turn - 1)), ("bad", 0)):
            talks.served(model, model, 2000 * turn, read, now)
    assert talks.kept("good", now) == ("good", pytest.approx(118_000, rel=0.02))
    assert talks.kept("bad", now)[1] < 3000


def test_a_conversation_that_moves_is_kept_where_it_went() -> None:
    talks = Conversations()
    talks.served("a", "claude", 4000, 0, 0.0)
    talks.served("a", "mercury", 4000, 0, 1.0)
    assert talks.kept("a", 2.0)[0] == "mercury"


def test_the_conversations_that_were_silent_longest_are_forgotten() -> None:
    talks = Conversations(most=100)
    for key in range(150):
        talks.served(key, "claude", 4000, 0, 0.0)
        talks.served(0, "claude", 4000, 0, 0.0)
    assert talks.kept(0, 1.0)[0] == "claude"
    assert talks.kept(149, 1.0)[0] == "claude"
    assert talks.kept(20, 1.0) == (None, 0.0)
