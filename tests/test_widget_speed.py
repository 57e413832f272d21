"""The measurement is honest: it times what it says, and tells what is slow."""

import time

import pandas as pd

from clepdg_lib import widget_speed
from clepdg_lib.results import render
from clepdg_lib.widget_speed import main, time_answers


def test_the_clock_runs_while_an_answer_is_made():
    taken = time_answers(lambda seconds: time.sleep(seconds), [0.0, 0.05])
    (quick, _), (slow, computing) = taken
    assert quick < 0.05 <= slow
    assert computing < slow  # sleeping is not computing


def _table(median):
    row = {"first": 9.0, "median": median, "slowest": 1.0, "computing": 0.1}
    return pd.DataFrame({"a widget": row}).T


def test_a_slow_widget_is_named(monkeypatch, capsys):
    monkeypatch.setattr(widget_speed, "measure_widgets", lambda n: _table(0.7))
    assert main(n=2) == 1
    assert "Above 0.5 s: a widget" in capsys.readouterr().out


def test_fast_widgets_pass_however_slow_the_first_answer(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(widget_speed, "measure_widgets", lambda n: _table(0.2))
    file = tmp_path / "data" / "results" / "widgets.json"
    assert main(n=2, file=file) == 0
    assert "fast enough" in capsys.readouterr().out
    page = render("widgets", project=tmp_path)
    assert "| a widget: seconds to an answer, median of 2 | 0.2 | ≤ 0.5 |" in page
    assert "| a widget: seconds to an answer, slowest of 2 | 1 | ≤ 0.5 |" in page


def test_all_five_are_driven():
    table = widget_speed.measure_widgets(n=1, model="clap-mini")
    assert len(table) == 5
    assert (table > 0).all().all()
