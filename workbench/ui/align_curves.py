"""The figures and sample answers of one alignment run: its story in, the JSON that static/align.js draws out."""

from __future__ import annotations

from typing import Any

from workbench.ui import align_fields, charts
from workbench.ui.align_story import LIVE, Story, is_number

SHOWN = 4  # sample answers of a look on the page
LOOKS = 12  # looks one can step through; of more, evenly chosen ones
BROKEN = ("failed", "interrupted", "stopped")


def _stands(status: dict[str, Any], story: Story, steps: int) -> tuple[str, int, float]:
    """State in the charts' words, the last step, and the step at which the run stands."""
    state = "running" if status["state"] in LIVE else status["state"]
    total = int(story.spans.get("align", [0, 0, 0, 0])[3]) or steps or 100
    return state, total, story.loss[-1][0] if story.loss else 0.0


def main(status: dict[str, Any], story: Story, steps: int = 0) -> list[dict[str, Any]]:
    """The four that matter most: loss, fit, preferred share (or win rate) and coherence."""
    state, total, now = _stands(status, story, steps)
    if story.loss or not story.instruct:
        loss = charts.loss_chart(story.loss, total, state=state)
    else:
        of = int(story.spans["instruct"][3]) or 100
        dual = status.get("method") == "dual"
        sub = (
            "stage 1, by step: the chosen side, then the rejected" if dual else "stage 1, loss of instructing, by step"
        )
        loss = charts.loss_chart(story.instruct, of, state=state, sub=sub)
        whose, found = "The instructed model’s loss", loss["title"]
        if dual:  # two models, one after the other: what is said is said of the one that is at work
            second = [point for point in story.instruct if point[0] > of / 2]
            found = charts.loss_chart(second or story.instruct, of, state=state)["title"]
            whose = f"The {'rejected' if second else 'chosen'} side’s loss"
        loss["title"] = found.replace("The loss", whose, 1)
    coherence = charts.coherence_chart(
        story.looks["coherence"], total, base=story.latest.get("base_coherence"), now=now, state=state
    )
    return [loss, charts.fit_chart(story.fit, total, state=state), _rate(story, state, total, now), coherence]


def _rate(story: Story, state: str, total: int, now: float) -> dict[str, Any]:
    """The preferred share where an oracle judges, else the win rate."""
    last = "Last " if state in BROKEN else ""
    preferred, wins = story.looks["preferred"], story.looks["win_rate"]
    if preferred:
        value, reference = preferred[-1][1], story.latest.get("base_preferred")
        return charts.rate_chart(
            preferred,
            total,
            name="Preferred share of answers",
            base=reference,
            now=now,
            state=state,
            title=f"{last}{'preferred' if last else 'Preferred'} answers {value:.2f}",
            base_text=f"base {reference:.2f}" if reference is not None else "",
            sub="share of sampled answers on held-out prompts, told by the judge",
        )
    return charts.rate_chart(
        wins,
        total,
        name="Win rate",
        title=f"{last}{'win' if last else 'Win'} rate {wins[-1][1]:.2f}" if wins else "",
        base=0.5,
        base_text="base, by definition",
        now=now,
        state=state,
        sub="held-out, judged against base",
    )


def more(status: dict[str, Any], story: Story, steps: int = 0) -> dict[str, Any]:
    """What is folded: accuracy, divergence, length, strength reached, gradient and learning rate."""
    state, total, now = _stands(status, story, steps)
    looks = {"total": total, "now": now, "state": state}
    accuracy, kl, tokens = (story.looks[name] for name in ("preference_accuracy", "kl_from_base", "mean_tokens"))
    own = story.latest.get("base_mean_tokens")
    first = accuracy[0][1] if accuracy and accuracy[0][0] == 0 else None
    figures = [
        charts.rate_chart(
            accuracy,
            name="Preference accuracy",
            title=f"Chosen is likelier in {accuracy[-1][1]:.0%} of pairs" if accuracy else "",
            base=first,
            base_text=f"base {first:.2f}" if first is not None else "",
            sub="share of held-out pairs; likelier by the mean token",
            **looks,
        ),
        charts.amount_chart(
            kl,
            name="KL from base",
            title=f"{kl[-1][1]:.2f} nats from base" if kl else "",
            sub="KL divergence along an answer, held-out, by step",
            **looks,
        ),
        charts.amount_chart(
            tokens,
            name="Length of answers",
            title=f"Answers of {tokens[-1][1]:.1f} tokens" + (f", base {own:.1f}" if is_number(own) else "")
            if tokens
            else "",
            base=own if is_number(own) else None,
            sub="mean tokens of sampled answers, held-out",
            **looks,
        ),
        charts.reached_chart(story.reached, total, aim=story.latest.get("relative_strength"), state=state),
        charts.series_chart(
            story.steps["grad_norm"],
            total,
            name="Gradient norm",
            finding=lambda mean: charts.trend(mean, "The gradient"),
            sub="length of the gradient, before it is cut to the longest allowed",
            state=state,
        ),
        charts.series_chart(
            story.steps["learning_rate"],
            total,
            name="Learning rate",
            finding=lambda mean: f"Learning rate {charts.short(mean[-1])}",
            sub="by step: warm-up, then its course",
            exact=True,
            state=state,
        ),
    ]
    return {
        "title": "More measurements",
        "sub": "preference accuracy, KL from base, length, strength reached, gradient, learning rate",
        "charts": figures,
    }


def before(status: dict[str, Any], story: Story, calibrates: bool) -> dict[str, Any]:
    """What was found before the fit: answers on both sides of stage 1, and the ladder that alpha was chosen from."""
    check, calibration = story.latest.get("check") or {}, story.latest.get("calibration")
    scit = status.get("method") != "dual"
    sides = [
        {name: str(row.get(name) or "") for name in ("prompt", "plus", "minus")}
        for row in check.get("sides") or []
        if isinstance(row, dict)
    ]
    ended = status["state"] not in LIVE and story.last is not None
    paused = status["state"] == "stopped"  # it can still go on
    panel: dict[str, Any] = {
        "title": "What stage 1 taught",
        "sub": "the same held-out prompt under either instruction"
        if scit
        else "the same held-out prompt to both models",
        "heads": ["under p+", "under p−"] if scit else ["tuned on chosen", "tuned on rejected"],
        "sides": sides,
        "empty": ("Not checked yet." if paused else "It was not checked.")
        if ended
        else "Two answers to read, when stage 1 is done.",
        "ended": ended,
        "chart": None,
    }
    if isinstance(calibration, dict) and "leaning" in (calibration.get("points") or [{}])[0]:
        panel["chart"] = charts.calibration_chart(calibration)
        panel["reason"] = align_fields.stages(str(calibration.get("reason") or ""))
        told = {"Lean to chosen": calibration.get("leaning_is"), "Drift": calibration.get("drift_is")}
        panel["meanings"] = [[name, align_fields.stages(text)] for name, text in told.items() if isinstance(text, str)]
    elif calibrates:
        sub = "answers that lean to chosen, and that drift, on prompts that stage 1 has not seen"
        panel["chart"] = charts.pending("The strength is chosen in stage 2", sub, 1, charts.y_ticks(0, 1))
        panel["chart"] |= {
            "x": [],
            "two": True,
            "empty": f"no strength {'is tried yet' if paused else 'was tried'}" if ended else "drawn in stage 2",
        }
    return panel


def samples(status: dict[str, Any], story: Story) -> dict[str, Any]:
    """Sample answers of every look: prompts and the base's answers once, the aligned model's by look."""
    looks = charts.thin(story.samples, LOOKS)
    rows = [row for row in (looks[-1][1] if looks else [])[:SHOWN] if isinstance(row, dict)]
    if not rows:
        ended = status["state"] not in LIVE and story.last is not None
        waits = "They come with the first look at held-out prompts, during stage 3."
        if ended and status["state"] == "stopped":
            waits = "There are none yet: the run was stopped before its first look at held-out prompts, in stage 3."
        elif ended:
            waits = "There are none: the run ended before its first look at held-out prompts, in stage 3."
        return {"title": "Sample answers", "right": "", "rows": [], "looks": [], "empty": waits, "ended": ended}
    texts = [{name: str(row.get(name) or "") for name in ("prompt", "base", "aligned")} for row in rows]
    return {
        "run": str(status.get("created") or ""),
        "title": "Sample answers",
        "right": "temperature 1, same seed",
        "rows": texts,
        "looks": [{"step": step, "aligned": [_aligned(given, i) for i in range(len(rows))]} for step, given in looks],
    }


def _aligned(rows: list[Any], place: int) -> str:
    row = rows[place] if place < len(rows) else None
    return str(row.get("aligned") or "") if isinstance(row, dict) else ""
