"""Words and ready-made values for generated rows: Japanese school tasks with emoji, free-text due dates, long texts."""

from __future__ import annotations

import datetime
import json
from random import Random

SUBJECTS = (
    "算数ドリル", "漢字練習", "音読カード", "理科の観察", "社会の調べ学習", "英語の単語", "読書感想文",
    "リコーダー練習",
    "図工の作品", "縄跳び", "ピアノ", "お風呂掃除", "皿洗い", "洗濯物たたみ", "犬の散歩", "花の水やり", "ゴミ出し",
    "部屋の片付け", "明日の準備", "日記", "自由研究", "計算プリント", "都道府県テスト", "九九の暗唱",
    "作文「将来の夢」",
)  # fmt: skip
ACTIONS = (
    "をやる",
    "を終わらせる",
    "を提出する",
    "の確認",
    "の丸つけ",
    "(やり直し)",
    "を10分",
    "の復習",
    "をがんばる",
    "",
)
EMOJI = ("", "", "", "✨", "📚", "🎒", "👨‍👩‍👧", "🐶", "🧹", "🏃‍♀️", "🎹", "💯", "🇯🇵", "🌸", "👍🏽")
SENTENCES = (
    "教科書の12ページから15ページまでを読んで、問題を解いてください。",
    "終わったら写真を撮ってアップロードしてね📷",
    "わからないところは\tノートに書いておくこと。",
    "「できた!」と思ったら、もう一度見直しましょう。",
    "C:\\宿題\\算数 に保存した 'プリント' を使います。",
    "期限を過ぎたらポイントはもらえません;注意!",
    "Please read aloud three times & write \"done\".",
    "髙橋先生・﨑山さんに渡す。𠮷野家の前で集合。",
    "半角カナ テスト、全角ABC、結合文字 が(か\u3099)。",
)  # fmt: skip
NOTES = (
    "自動作成しました。",
    "前回の未完了タスクを削除しました。",
    "祝日のためスキップ🎌",
    "次の営業日に移動しました。",
)
FAILURES = ("SQLSTATE[23503]: 担当者が見つかりません", "タイムアウトしました(30秒)", "グループが無効です")
TAG_NAMES = ("宿題", "家事", "習い事", "テスト勉強", "運動", "読書", "お手伝い", "夏休み☀️", "毎日", "週末")
FAMILY = ("佐藤", "鈴木", "高橋", "田中", "伊藤", "渡邉", "山本", "中村", "小林", "髙田", "齋藤", "𠮷田")
GIVEN = ("太郎", "花子", "陽菜", "蓮", "結衣", "大翔", "葵", "湊", "さくら", "ひなた")
DUE_WORDS = ("2025年度末", "来週の金曜日", "夏休み明け", "2025/12/24", "なるべく早く", "3学期の始業式まで")

#: All times are counted from here, never from the clock, so that two runs make the same rows.
EPOCH = datetime.date(2024, 4, 1)
DAYS = tuple((EPOCH + datetime.timedelta(days=day)).isoformat() for day in range(800))
#: Rows are created within the first this many days; what happens to them later has the rest.
CREATED_DAYS = 600
SCHEDULES = (
    [{"type": "daily", "time": "07:00"}],
    [{"type": "weekly", "days": [1, 3, 5], "time": "16:30"}, {"type": "monthly", "dates": [1, 15], "time": "09:00"}],
    [{"type": "monthly", "dates": [31], "time": "18:00", "memo": "月末の大掃除🧹"}],
)


def escape(text: str) -> str:
    """``text`` as one field of COPY's text format (PostgreSQL, 'COPY', 'Text Format')."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def titles(random: Random) -> tuple[str, ...]:
    """Task titles; a few at the column's limit of 255 characters."""
    plain = [f"{emoji}{subject}{action}" for subject in SUBJECTS for action in ACTIONS for emoji in EMOJI]
    random.shuffle(plain)
    longest = ("とても長い題名📝" * 40)[:255]
    return tuple(plain[:1500]) + (longest,) * 3


def descriptions(random: Random) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Descriptions in COPY's format in three pools: short, of one or two kilobytes, and of tens of kilobytes."""

    def text(sentences: int) -> str:
        return escape("\n".join(random.choice(SENTENCES) for _ in range(sentences)))

    short = tuple(text(random.randint(1, 3)) for _ in range(500))
    middle = tuple(text(random.randint(10, 25)) for _ in range(60))
    huge = tuple(text(random.randint(150, 600)) for _ in range(12))
    return short, middle, huge


def times(random: Random) -> tuple[str, ...]:
    """Times of day as ``HH:MM:SS``."""
    return tuple(
        f"{random.randint(6, 22):02d}:{random.randint(0, 59):02d}:{random.randint(0, 59):02d}" for _ in range(4000)
    )


def schedules() -> tuple[str, ...]:
    """Values of the json column ``schedules``, with spaces, escaped and plain Japanese: json keeps them as written."""
    plain = tuple(escape(json.dumps(value, ensure_ascii=False, indent=1)) for value in SCHEDULES)
    return plain + tuple(escape(json.dumps(value, separators=(",", ":"))) for value in SCHEDULES)
