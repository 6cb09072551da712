"""The preview answers as a perfect fit would, and calibration finds the strength that gains without drifting."""

import numpy as np
import pytest
import torch
from tiny import PAIRS, tiny_model

import workbench.rahf.calibrate as module
from workbench.generation import Answer, Sampling, generate
from workbench.pairs import Pair, PreferencePairs, Report, as_messages
from workbench.preview import Reader, Shift, preview
from workbench.progress import QUIET
from workbench.rahf.adapters import add_adapter
from workbench.rahf.calibrate import Rung, calibrate, choose, shift_of
from workbench.rahf.config import RunConfig
from workbench.tokens import Limits

SAMPLING = Sampling(max_new_tokens=6, seed=3)
PROMPTS = ["what is it?", "tell me how many days a week has"]


def taught(family="llama", names=("chosen", "rejected")):
    """A tiny model with adapters that do something."""
    loaded = tiny_model(family)
    config = RunConfig.from_dict({"method": "dual", "lora_rank": 4})
    for number, name in enumerate(names):
        add_adapter(loaded, name, config, loaded.n_blocks, number)
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2)
    return loaded


def last(steps):
    *_, end = steps
    return end


@torch.no_grad()
def slowly(loaded, prompt, alpha, shift, sampling):
    """The same without a cache, a batch or shared code: whole sequences through the whole model, one token at a time."""
    from workbench.generation import luck_of, pick
    from workbench.rahf.adapters import activate

    luck = luck_of(sampling.seed, 0, sampling.max_new_tokens)

    def ids_for(reader, drawn):
        return torch.tensor([loaded.boundary.prompt_ids(prompt, reader.instruction) + drawn])

    def states(reader, drawn):
        activate(loaded, [reader.adapter] if reader.adapter else [])
        kept = []
        hook = loaded.blocks[shift.block].register_forward_hook(
            lambda m, a, o: kept.append(o[0] if isinstance(o, tuple) else o)
        )
        loaded.model(input_ids=ids_for(reader, drawn))
        hook.remove()
        return kept[0][0]

    drawn = []
    for step in range(sampling.max_new_tokens):
        plus, minus = states(shift.plus, drawn), states(shift.minus, drawn)
        activate(loaded, [shift.bare.adapter] if shift.bare.adapter else [])
        places = step + (1 if shift.first else 0)  # how many states at the end are shifted

        def move(module, args, output, plus=plus, minus=minus, places=places):
            hidden = (output[0] if isinstance(output, tuple) else output).clone()
            if places:
                hidden[0, -places:] += alpha * (plus[-places:] - minus[-places:])
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        hook = loaded.blocks[shift.block].register_forward_hook(move)
        logits = loaded.model(input_ids=ids_for(shift.bare, drawn)).logits[0, -1:]
        hook.remove()
        token = int(pick(logits.float(), luck[step : step + 1], sampling))
        if token in loaded.boundary.eos_ids:
            break
        drawn.append(token)
    activate(loaded, [])
    return drawn


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("first", [True, False])
def test_the_preview_equals_a_slow_one(family, first):
    loaded = taught(family)
    shift = Shift(1, Reader("chosen", "be kind"), Reader("rejected", "be a lazy dog"), first=first)
    for alpha in (0.0, 0.8, 3.0):
        fast = last(preview(loaded, PROMPTS[:1], [alpha], shift, SAMPLING)).answers[0].ids
        assert fast == slowly(loaded, PROMPTS[0], alpha, shift, SAMPLING)


def test_at_alpha_zero_the_base_answers_and_rows_do_not_touch_each_other():
    loaded = taught()
    shift = Shift(1, Reader("chosen"), Reader("rejected"))
    rows = last(preview(loaded, PROMPTS + PROMPTS, [0.0, 0.0, 2.0, 2.0], shift, SAMPLING, [0, 1, 0, 1])).answers
    assert [a.ids for a in rows[:2]] == [a.ids for a in generate(loaded, PROMPTS, SAMPLING)]
    assert [a.ids for a in rows[2:]] != [a.ids for a in rows[:2]]
    alone = last(preview(loaded, PROMPTS, [2.0, 2.0], shift, SAMPLING)).answers
    assert [a.ids for a in rows[2:]] == [a.ids for a in alone]


def test_the_margin_is_the_log_ratio_of_the_two_sides():
    from workbench.evaluation import rows_of
    from workbench.likelihood import token_logps
    from workbench.rahf.adapters import activate

    loaded = taught()
    found = last(preview(loaded, PROMPTS, [0.5, 0.5], Shift(1, Reader("chosen"), Reader("rejected")), SAMPLING))
    rows = rows_of(loaded, PROMPTS, found.answers, SAMPLING)
    sides = []
    for name in ("chosen", "rejected"):
        activate(loaded, [name])
        logps, _ = token_logps(loaded.model, rows, loaded.boundary.pad_id, loaded.device)
        sides.append(logps.sum(1))
    activate(loaded, [])
    assert found.margin.numpy() == pytest.approx((sides[0] - sides[1]).detach().numpy(), abs=1e-3)


def rung(alpha, leaning, drift, n=40):
    """Of ``n`` answers this share leans to chosen, and this one has drifted."""
    return Rung(alpha, np.arange(n) < leaning * n, np.arange(n) < drift * n, [Answer(str, [7], True, True)] * n)


BEFORE = rung(0, 0.5, 0)


def test_the_middle_of_the_plateau_is_taken_and_drift_bounds_it():
    ladder = [rung(0.1, 0.6, 0), rung(0.2, 0.95, 0), rung(0.4, 0.95, 0), rung(0.8, 0.95, 0.05), rung(1.6, 1.0, 0.5)]
    alpha, why = choose(BEFORE, ladder, 0.1, 9)
    assert alpha == 0.4 and "between 0.2 and 0.8" in why and "95% of answers lean to chosen (50% before)" in why
    assert choose(BEFORE, ladder, 0.6, 9)[0] == 1.6  # a drift that is allowed counts
    assert choose(BEFORE, ladder[1:2], 0.1, 9)[0] == 0.2


def test_one_answer_more_or_less_does_not_decide():
    """Of 40 answers 5 drifted cannot be told from the 4 that are allowed, 10 can; 39 that lean are as good as 40."""
    weak = rung(0.1, 0.6, 0)
    assert choose(BEFORE, [weak, rung(0.2, 1.0, 5 / 40)], 0.1, 9)[0] == 0.2
    assert choose(BEFORE, [weak, rung(0.2, 1.0, 10 / 40)], 0.1, 9)[0] == 0.1
    assert choose(BEFORE, [weak, rung(0.2, 1.0, 1.0)], 0.99, 9)[0] == 0.1  # all of them: no chance is left in that
    near, best, far = rung(0.2, 39 / 40, 0), rung(0.4, 1.0, 0), rung(0.8, 38 / 40, 0)
    assert "between 0.2 and 0.4" in choose(BEFORE, [near, best, far], 0.1, 9)[1]


def test_a_plateau_ends_where_answers_drift():
    """What is sound again beyond it was luck: the middle must not lie among strengths that break answers."""
    ladder = [rung(0.1, 1.0, 0), rung(0.2, 1.0, 0), rung(0.4, 1.0, 0.5), rung(0.8, 1.0, 0.4), rung(1.6, 1.0, 0.1)]
    alpha, why = choose(BEFORE, ladder, 0.1, 9)
    assert alpha in (0.1, 0.2) and "between 0.1 and 0.2" in why


def test_the_best_of_many_strengths_is_held_to_more_than_one():
    """Where nothing moves answers, no more than one ladder in twenty may say so."""
    random = np.random.default_rng(0)
    before, claimed = random.random((300, 48)) < 0.5, 0
    for answers in before:
        rungs = [Rung(0.1 * 2**k, np.where(random.random(48) < 0.3, random.random(48) < 0.5, answers), answers & False, [])
                 for k in range(9)]  # fmt: skip
        claimed += "chance" not in choose(Rung(0, answers, answers & False, []), rungs, 0.1, 9)[1]
    assert claimed <= 300 * 0.05


def test_where_no_more_answers_lean_or_everything_drifts_it_says_so():
    flat = [rung(0.1, 0.5, 0), rung(0.2, 0.55, 0)]
    alpha, why = choose(BEFORE, flat, 0.1, 0.33)
    assert alpha == 0.33 and "chance" in why
    assert "alpha 0.33 is taken" in why
    alpha, why = choose(BEFORE, [rung(0.1, 0.9, 0.9), rung(0.2, 1, 1.0)], 0.1, 0.33)
    assert alpha == 0.1 and "weakest" in why


def test_where_no_more_answers_lean_no_strength_is_taken_at_which_answers_drift():
    flat = [rung(0.1, 0.5, 0), rung(0.2, 0.5, 0), rung(0.33, 0.5, 0.9), rung(0.5, 0.5, 1.0)]
    alpha, why = choose(BEFORE, flat, 0.1, 0.33)
    assert alpha == 0.2 and "alpha 0.2 is taken" in why
    only = [rung(0.1, 0.5, 0.9), rung(0.5, 0.5, 0)]
    assert choose(BEFORE, only, 0.1, 0.1)[0] == 0.5  # what counts is all there is


def test_a_ladder_on_very_long_differences_has_no_zero(monkeypatch):
    tried = []
    flat = [rung(0.1, 0.5, 0)] * 20
    monkeypatch.setattr(
        module, "_climb", lambda loaded, some, alphas, *rest: tried.extend(alphas) or flat[: len(alphas)]
    )
    rows = [Pair(k, as_messages(p["prompt"]), p["chosen"], p["rejected"]) for k, p in enumerate(PAIRS[:5])]
    pairs = PreferencePairs.from_pairs(rows, Report("test", len(rows), len(rows)))
    found = calibrate(taught(), pairs, {0: 900.0}, RunConfig(), Limits(64, 32), QUIET)
    assert tried[0] == 0 and len(tried) == len(set(tried)) == 10 and found["chosen"] > 0


def test_an_answer_that_is_stuck_has_drifted(monkeypatch):
    loaded = taught()
    pairs = [Pair(k, as_messages(prompt), "yes", "no") for k, prompt in enumerate(PROMPTS)]

    def answers(*texts):
        return [Answer(loaded.boundary.decode, ids, True, True) for ids in texts]

    stuck, fine = [40] * 20, [41, 52, 63]
    monkeypatch.setattr(module, "score_completions", lambda loaded, rows: torch.full((len(rows),), -1.0))
    rungs = module.climbed(
        loaded,
        pairs,
        [0, 1],
        [answers(fine, fine), answers(stuck, fine)],
        np.array([[False, False], [True, True]]),
        Limits(99, 99),
        SAMPLING,
    )
    assert rungs[1].leans.tolist() == [True, True] and rungs[1].drifted.tolist() == [True, False]


@pytest.mark.parametrize("method", ["scit", "dual"])
def test_calibration_is_plain_data_and_the_same_every_time(method):
    import json

    config = RunConfig.from_dict({"method": method, "max_new_tokens": 4, "calibration_prompts": 4, "seed": 1})
    loaded = taught(names=config.instructed_adapters)
    rows = [Pair(k, as_messages(p["prompt"]), p["chosen"], p["rejected"]) for k, p in enumerate(PAIRS[:5])]
    pairs = PreferencePairs.from_pairs(rows, Report("test", len(rows), len(rows)))
    found = [calibrate(loaded, pairs, {0: 0.002, 1: 0.004}, config, Limits(64, 32), QUIET) for _ in range(2)]
    assert found[0] == found[1] == json.loads(json.dumps(found[0]))
    alphas = [point["alpha"] for point in found[0]["points"]]
    assert alphas == sorted(set(alphas)) and alphas[-1] == 100.0 and found[0]["prompts"] == 4
    assert all(p["relative_strength"] == pytest.approx(0.003 * p["alpha"], abs=1e-4) for p in found[0]["points"])


def test_calibration_answers_fewer_prompts_at_once_where_caches_would_take_too_much(monkeypatch):
    assert module.prompts_together(10, 100.0, 1.0) == 9  # 96 answers
    config = RunConfig.from_dict({"max_new_tokens": 4, "calibration_prompts": 4})
    loaded = taught(names=config.instructed_adapters)
    rows = [Pair(k, as_messages(p["prompt"]), p["chosen"], p["rejected"]) for k, p in enumerate(PAIRS[:4])]
    pairs, made = PreferencePairs.from_pairs(rows), []

    def watched(loaded, prompts, *rest):
        made.append(len({str(prompt) for prompt in prompts}))
        return preview(loaded, prompts, *rest)

    monkeypatch.setattr(module, "preview", watched)
    found = []
    for most in (8e9, 1):
        monkeypatch.setattr("workbench.cache.MOST_BYTES", most)
        found.append(calibrate(loaded, pairs, {0: 0.2, 1: 0.4}, config, Limits(64, 32), QUIET))
    assert found[0] == found[1] and made == [4, 1, 1, 1, 1]


def test_the_preview_shifts_what_step_3_fits():
    scit = shift_of(RunConfig.from_dict({"states": "completion", "foundation": "instructed"}), [2, 5])
    assert scit == Shift(
        5,
        Reader("instructed", RunConfig().positive),
        Reader("instructed", RunConfig().negative),
        Reader("instructed"),
        False,
    )
    dual = shift_of(RunConfig.from_dict({"method": "dual"}), [3])
    assert dual == Shift(3, Reader("chosen"), Reader("rejected"))
