"""A fresh process is asked, and its complaint is passed on."""

import json

import pytest

from clepdg_lib import speed_processes
from clepdg_lib.speed_processes import measure_memory, measure_start, run


def test_a_process_of_its_own_answers_or_complains():
    assert run("import sys; print(sys.argv[1])", 7).strip() == "7"
    with pytest.raises(RuntimeError, match="(?s)measurement failed.*ZeroDivisionError"):
        run("1 / 0")


def test_memory_and_slope_come_from_several_sizes(monkeypatch):
    def told(code, n):
        return json.dumps([0.001 * n**1.5, 100 if n < 500 else 150])

    monkeypatch.setattr(speed_processes, "run", told)
    found = measure_memory((100, 200, 400, 800))
    assert found["rss_ratio"] == 1.5
    assert found["time_exponent"] == pytest.approx(1.5)


def test_start_is_a_difference(monkeypatch):
    asked = []

    def told(code, *_):
        asked.append(code)
        return "0.25"

    monkeypatch.setattr(speed_processes, "run", told)
    found = measure_start(repeats=3)
    assert found["load_s"] == 0.25 and abs(found["import_s"]) < 0.1
    assert [("clepdg_lib" in code) for code in asked[:6]] == [False, True] * 3


def test_the_code_that_embeds_a_long_corpus_runs(private_cache):
    took, peak = json.loads(run(speed_processes.EMBED, 3).splitlines()[-1])
    assert took > 0 and peak > 0
