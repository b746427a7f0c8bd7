"""Every key does what its help text says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import ContentSwitcher, Input

from llmctl.tui.app import SPEEDS, WINDOWS
from llmctl.tui.model.alerts import parse_alert
from llmctl.tui.screens.detail import CallbackDetail
from llmctl.tui.screens.help import Help
from llmctl.tui.widgets.rows import RowList
from tests.tui.conftest import Play, Shown, read_screen, settle
from tests.waiting import until


def find_callbacks(shown: Shown) -> RowList[Any]:
    return shown.app.pane.query_one("#callbacks", RowList)


def read_export(folder: Path) -> str:
    return "".join(file.read_text(encoding="utf-8") for file in folder.iterdir())


async def test_digits_open_panes_escape_leads_back_and_q_quits(play: Play) -> None:
    panes = ("overview", "callbacks", "providers", "queue", "topics", "events", "run")
    async with play() as shown:
        switcher = shown.app.query_one("#panes", ContentSwitcher)
        for key, pane in enumerate(panes, 1):
            await shown.press(str(key))
            assert switcher.current == pane
            await shown.press("escape")
            assert switcher.current == "overview"
        await shown.press("q")
        await shown.pause()
        assert not shown.app.is_running
        assert shown.app.failure is None


async def test_space_stops_the_picture_and_goes_on(play: Play) -> None:
    async with play() as shown:
        clock = shown.app.session.clock
        clock.hold(False)
        await shown.press("space")
        assert clock.held
        assert "PAUSED" in read_screen(shown.app)
        await shown.press("space")
        assert not clock.held
        assert "PAUSED" not in read_screen(shown.app)


async def test_filter_shows_what_passes_and_counts_it(play: Play) -> None:
    async with play(38.0) as shown:
        await shown.press("2", "slash", *"e2e>5s", "enter")
        await settle(shown)
        rows = find_callbacks(shown).rows
        assert rows
        assert all(row.e2e_seconds > 5 for row in rows)
        assert f"{len(rows):,} of " in read_screen(shown.app)
        await shown.press("slash", *["backspace"] * 6, "enter")
        await settle(shown)
        assert len(find_callbacks(shown).rows) > len(rows)


async def test_wrong_filter_is_refused_and_the_old_one_stays(play: Play) -> None:
    async with play(38.0) as shown:
        await shown.press("2", "slash", *"colour:red", "enter")
        await settle(shown)
        assert "'colour' is no field of a filter" in read_screen(shown.app)
        assert shown.app.query_one("#filter", Input).has_class("open")
        await shown.press("escape")
        await settle(shown)
        assert not shown.app.query_one("#filter", Input).has_class("open")
        assert not shown.app.session.store.feed.filtered


async def test_brackets_zoom_the_window(play: Play) -> None:
    async with play() as shown:
        for window in ("5m", "15m", "1h", "1h"):
            await shown.press("right_square_bracket")
            assert f" {window} " in read_screen(shown.app).splitlines()[0]
        for _ in WINDOWS:
            await shown.press("left_square_bracket")
        assert " 1m " in read_screen(shown.app).splitlines()[0]


async def test_moving_holds_the_list_and_f_follows_again(play: Play) -> None:
    async with play(8.0) as shown:
        clock = shown.app.session.clock
        await shown.press("2", "down")
        held = list(find_callbacks(shown).rows)
        clock.move_to(clock.begin + 12)
        await settle(shown)
        assert list(find_callbacks(shown).rows) == held
        newer = find_callbacks(shown).held_back
        assert newer > 0
        assert f"held, {newer:,} newer" in read_screen(shown.app)
        await shown.press("f")
        await settle(shown)
        assert len(find_callbacks(shown).rows) == len(held) + newer


async def test_moving_reaches_both_ends_and_scrolls(play: Play) -> None:
    async with play(38.0) as shown:
        await shown.press("2", "end")
        await settle(shown)
        rows = find_callbacks(shown)
        assert rows.selected == rows.rows[-1]
        assert rows.rows[-1].request_id[:7] in read_screen(shown.app)
        await shown.press("pageup", "k", "j", "pagedown", "home")
        await settle(shown)
        assert rows.selected == rows.rows[0]


async def test_s_sorts_and_capital_s_turns_the_order(play: Play) -> None:
    async with play(38.0) as shown:
        await shown.press("2", *["s"] * 5)
        await settle(shown)
        times = [row.e2e_seconds for row in find_callbacks(shown).rows]
        assert times == sorted(times, reverse=True)
        assert "by e2e ↓" in read_screen(shown.app)
        await shown.press("S")
        await settle(shown)
        assert [row.e2e_seconds for row in find_callbacks(shown).rows] == sorted(times)


async def test_m_enlarges_one_part_and_tab_moves_between_lists(play: Play) -> None:
    async with play() as shown:
        first = shown.app.focused
        await shown.press("m")
        assert shown.app.screen.maximized is find_callbacks(shown)
        await shown.press("escape")
        assert shown.app.screen.maximized is None
        await shown.press("tab")
        assert isinstance(shown.app.focused, RowList)
        assert shown.app.focused is not first


async def test_e_saves_the_list_without_what_callbacks_say(play: Play, tmp_path: Path) -> None:
    async with play(38.0) as shown:
        shown.app.export_folder = tmp_path
        await shown.press("2", "slash", *"e2e>5s", "enter")
        await settle(shown)
        listed = len(find_callbacks(shown).rows)
        await shown.press("e")
        await until(lambda: len(read_export(tmp_path).splitlines()) == listed, what="every row")
        rows = [json.loads(line) for line in read_export(tmp_path).splitlines()]
    assert {"request_id", "topic", "status"} <= rows[0].keys()
    assert not {"justification", "message", "metadata"} & rows[0].keys()


async def test_capital_e_saves_the_screen(play: Play, tmp_path: Path) -> None:
    async with play() as shown:
        shown.app.export_folder = tmp_path
        await shown.press("E")
        await until(lambda: read_export(tmp_path).rstrip().endswith("</svg>"), what="the picture")


async def test_y_copies_the_id_in_the_list_and_in_the_detail(play: Play) -> None:
    async with play() as shown:
        row = find_callbacks(shown).selected
        assert row is not None
        for key in ("y", "enter"):
            shown.app.copy_to_clipboard("")
            await shown.press(key, "y")
            assert shown.app.clipboard == row.request_id


async def test_b_marks_the_moment(play: Play) -> None:
    async with play() as shown:
        await shown.press("b", "6")
        await settle(shown)
        assert "bookmark: " in read_screen(shown.app)


async def test_enter_opens_a_callback_and_question_mark_the_help(play: Play) -> None:
    async with play() as shown:
        await shown.press("enter")
        await settle(shown)
        assert isinstance(shown.app.screen, CallbackDetail)
        await shown.press("v", "escape")
        assert not isinstance(shown.app.screen, CallbackDetail)
        await shown.press("question_mark")
        assert isinstance(shown.app.screen, Help)
        await shown.press("question_mark")
        assert not isinstance(shown.app.screen, Help)


async def test_without_control_no_key_and_no_command_changes_the_service(play: Play) -> None:
    async with play() as shown:
        names = {each.title for each in shown.app.get_system_commands(shown.app.screen)}
        await shown.press("3", "d", "r", "x")
        assert len(shown.app.screen_stack) == 1
    assert {"filter the callbacks", "save the list as JSONL", "go to a time", "Theme"} <= names
    assert "drain the service" not in names


async def test_arrows_move_in_the_recording(play: Play) -> None:
    """By ten seconds or a minute, within the recording."""
    async with play(20.0) as shown:
        clock = shown.app.session.clock
        for key, moved in (("left", -10), ("right", 10), ("shift+right", 60), ("shift+left", -60)):
            target = min(max(clock.now() + moved, clock.begin), clock.end)
            await shown.press(key)
            await until(lambda target=target: clock.now() == pytest.approx(target), what="the move")
            await shown.app.workers.wait_for_complete()
            at = shown.app.session.store.reading
            assert at is None or at.at <= target
            assert at is None or target - at.at < 1.5


async def test_g_goes_to_a_time_and_refuses_what_is_none(play: Play) -> None:
    async with play(20.0) as shown:
        clock = shown.app.session.clock
        await shown.press("g", *"noon", "enter")
        await settle(shown)
        assert "'noon'" in read_screen(shown.app)
        await shown.press(*["backspace"] * 4, *"5s", "enter")
        await until(lambda: clock.now() == pytest.approx(clock.begin + 5), what="the move")


async def test_comma_and_full_stop_change_the_speed(play: Play) -> None:
    async with play() as shown:
        clock = shown.app.session.clock
        await shown.press("full_stop")
        assert clock.speed == 2
        for _ in SPEEDS:
            await shown.press("comma")
        assert clock.speed == SPEEDS[0]


async def test_alert_rings_once_and_stands_in_the_banner(play: Play, monkeypatch: Any) -> None:
    """A firing alert is in the second line and among the events too."""
    rung: list[None] = []
    async with play(1.0, alerts=[parse_alert("queue.depth > 30 for 2s")]) as shown:
        monkeypatch.setattr(shown.app, "bell", lambda: rung.append(None))
        clock = shown.app.session.clock
        clock.move_to(clock.begin + 17)
        await settle(shown)
        await settle(shown)
        assert "ALERT queue.depth:max > 30" in read_screen(shown.app).splitlines()[1]
        assert len(rung) == 1
        await shown.press("6")
        await settle(shown)
        assert "✖ FIRING" in read_screen(shown.app)
