"""A guess at the script and the language of a text, from its letters and its commonest small words. A hint, no more."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter

LOOKED_AT = 400  # characters of a text
_NO_LETTERS = bytes(code for code in range(128) if not chr(code).isalpha())
_WORD = re.compile(r"[^\W\d_]+")

_RANGES = (
    (0x0041, 0x024F, "Latin"),
    (0x0250, 0x02AF, "Latin"),
    (0x0370, 0x03FF, "Greek"),
    (0x0400, 0x052F, "Cyrillic"),
    (0x0530, 0x058F, "Armenian"),
    (0x0590, 0x05FF, "Hebrew"),
    (0x0600, 0x077F, "Arabic"),
    (0x08A0, 0x08FF, "Arabic"),
    (0x0900, 0x097F, "Devanagari"),
    (0x0980, 0x09FF, "Bengali"),
    (0x0A00, 0x0A7F, "Gurmukhi"),
    (0x0A80, 0x0AFF, "Gujarati"),
    (0x0B80, 0x0BFF, "Tamil"),
    (0x0C00, 0x0C7F, "Telugu"),
    (0x0C80, 0x0CFF, "Kannada"),
    (0x0D00, 0x0D7F, "Malayalam"),
    (0x0D80, 0x0DFF, "Sinhala"),
    (0x0E00, 0x0E7F, "Thai"),
    (0x0E80, 0x0EFF, "Lao"),
    (0x0F00, 0x0FFF, "Tibetan"),
    (0x1000, 0x109F, "Burmese"),
    (0x10A0, 0x10FF, "Georgian"),
    (0x1100, 0x11FF, "Hangul"),
    (0x1200, 0x139F, "Ethiopic"),
    (0x1780, 0x17FF, "Khmer"),
    (0x1E00, 0x1EFF, "Latin"),
    (0x1F00, 0x1FFF, "Greek"),
    (0x3040, 0x30FF, "Kana"),
    (0x3130, 0x318F, "Hangul"),
    (0x3400, 0x9FFF, "Han"),
    (0xAC00, 0xD7AF, "Hangul"),
    (0xF900, 0xFAFF, "Han"),
    (0xFB50, 0xFDFF, "Arabic"),
    (0xFE70, 0xFEFF, "Arabic"),
    (0x20000, 0x323AF, "Han"),
)
_STARTS = [start for start, _, _ in _RANGES]
_BY_SCRIPT = {
    "Greek": "Greek",
    "Armenian": "Armenian",
    "Hebrew": "Hebrew",
    "Arabic": "Arabic",
    "Devanagari": "Hindi",
    "Bengali": "Bengali",
    "Gurmukhi": "Punjabi",
    "Gujarati": "Gujarati",
    "Tamil": "Tamil",
    "Telugu": "Telugu",
    "Kannada": "Kannada",
    "Malayalam": "Malayalam",
    "Sinhala": "Sinhala",
    "Thai": "Thai",
    "Lao": "Lao",
    "Tibetan": "Tibetan",
    "Burmese": "Burmese",
    "Georgian": "Georgian",
    "Hangul": "Korean",
    "Ethiopic": "Amharic",
    "Khmer": "Khmer",
    "Kana": "Japanese",
    "Han": "Chinese",
}
_SMALL_WORDS = {
    "English": "the and of to is that it for with you are was this be have not on as what how can from or which your do",
    "German": "der die das und ist nicht ein eine ich sie mit auf für den dem zu von es im auch wie sind wird oder kann",
    "French": "le les des est et une dans pour que qui pas vous je il sur avec ce sont par plus au du ne comment être",
    "Spanish": "el los las es una que por con para no se del lo como más su pero son y está cómo qué puede muy al",
    "Portuguese": "o os uma não que é para com em do da dos das se por como mais você são ao pelo isso na no as",
    "Italian": "il gli che è non di una per con sono del della dei le si come più questo anche nel alla lo ma",
    "Dutch": "het een en van is dat niet de ik je op te voor met zijn maar ook wordt hoe kan deze naar aan bij",
    "Swedish": "och att det är som en på för med inte av till den har jag du om ett kan hur vad eller men så",
    "Danish": "og at det er som en på for med ikke af til den har jeg du om et kan hvordan hvad eller men så",
    "Norwegian": "og at det er som en på for med ikke av til den har jeg du om et kan hvordan hva eller men så",
    "Finnish": "ja on ei se että hän minä sinä kun mutta niin kuin ovat myös tai mitä miten voi ole tämä joka",
    "Polish": "i w nie na się z do to że jest jak o co czy są dla po od jego ale przez może być ten za",
    "Czech": "a je se na v že to s z do není jak pro jsou co ale by jako který může být si při podle nebo",
    "Romanian": "și este în de la o că pe cu nu un pentru din care sunt se mai ce să sau fi dar cum poate",
    "Hungarian": "a az és hogy nem is egy van ez de meg azt mint csak már vagy mi ha kell lehet hogyan akkor",
    "Turkish": "ve bir bu için ile da de çok ne olarak daha gibi var değil mi en ama nasıl olan kadar sonra ya",
    "Vietnamese": "và là của có không được cho các một những trong người với để này khi đó bạn tôi từ như về làm",
    "Indonesian": "yang dan di untuk dengan ini itu tidak dari dalam akan pada adalah saya anda atau bisa juga ke oleh",
    "Russian": "и в не на что я с как это по но она он они мы вы для от так же или если есть бы его вас можно",
    "Ukrainian": "і в не на що я з як це по але вона він вони ми ви для від так та або якщо є би його вас можна",
    "Bulgarian": "и в не на че аз с как това по но тя той те ние за от така или ако е да се са ще си има може",
    "Serbian": "и у не на да ја са као то по али она он они ми ви за од тако или ако је се су ће би има може",
}
_LANGUAGES = list(_SMALL_WORDS)
_OF_WORD: dict[str, list[int]] = {}
for _index, _words in enumerate(_SMALL_WORDS.values()):
    for _word in set(_words.split()):
        if len(_word) > 1 or not _word.isascii():  # "a", "i" and "o" are words of many languages, and names
            _OF_WORD.setdefault(_word, []).append(_index)


def _script_of(character: str) -> str:
    code = ord(character)
    index = bisect_right(_STARTS, code) - 1
    return _RANGES[index][2] if index >= 0 and code <= _RANGES[index][1] else ""


def script(text: str) -> str:
    """The script most letters of a text's beginning are in ("Latin", "Han", ...); "" for one without letters.

    Japanese (Kana beside Han) counts as Kana.
    """
    text = text[:LOOKED_AT]
    counts = Counter({"Latin": len(text.encode("ascii", "ignore").translate(None, _NO_LETTERS))})
    if not text.isascii():
        counts.update(filter(None, (_script_of(character) for character in text if character > "\x7f")))
    if not counts.total():
        return ""
    if counts["Kana"] and counts["Kana"] >= 0.1 * counts["Han"] and counts["Kana"] + counts["Han"] > counts["Latin"]:
        return "Kana"
    return counts.most_common(1)[0][0]


def language(text: str, in_script: str | None = None) -> str:
    """The language a text's beginning seems to be in; "" where it cannot be told (a few words, a program, a list)."""
    in_script = script(text) if in_script is None else in_script
    if in_script not in ("Latin", "Cyrillic"):
        return _BY_SCRIPT.get(in_script, "")
    words = _WORD.findall(text[:LOOKED_AT].lower())
    kinds = Counter(index for word in set(words) for index in _OF_WORD.get(word, ()))
    ranked = kinds.most_common(2)
    if not ranked or ranked[0][1] < 2 or (len(ranked) > 1 and ranked[0][1] < 1.5 * ranked[1][1]):
        return ""
    best = ranked[0][0]
    if sum(best in _OF_WORD.get(word, ()) for word in words) < 0.12 * len(words):
        return ""
    return _LANGUAGES[best]
