"""What languages call themselves, by the codes of their voices; without those of which the English
name is the same, or whose own name Unicode's CLDR does not know.
"""

from __future__ import annotations

OWN_NAMES = {
    "am": "አማርኛ", "an": "Aragonés", "ar": "العربية", "as": "অসমীয়া", "az": "Azərbaycan",
    "ba": "Башҡортса", "be": "Беларуская", "bg": "Български", "bn": "বাংলা", "bs": "Bosanski",
    "ca": "Català", "cmn": "中文", "cs": "Čeština", "cv": "Чӑваш", "cy": "Cymraeg", "da": "Dansk",
    "de": "Deutsch", "el": "Ελληνικά", "es": "Español", "et": "Eesti", "eu": "Euskara",
    "fa": "فارسی", "fi": "Suomi", "fo": "Føroyskt", "fr": "Français", "ga": "Gaeilge",
    "gd": "Gàidhlig", "gn": "Avañe’ẽ", "gu": "ગુજરાતી", "haw": "ʻŌlelo Hawaiʻi", "he": "עברית",
    "hi": "हिन्दी", "hr": "Hrvatski", "ht": "Kreyòl Ayisyen", "hu": "Magyar", "hy": "Հայերեն",
    "id": "Bahasa Indonesia", "is": "Íslenska", "it": "Italiano", "ja": "日本語", "ka": "ქართული",
    "kaa": "Қарақалпақша", "kk": "Қазақша", "kl": "Kalaallisut", "kn": "ಕನ್ನಡ", "ko": "한국어",
    "kok": "कोंकणी", "ku": "Kurdî", "ky": "Кыргызча", "la": "Latina", "lb": "Lëtzebuergesch",
    "lt": "Lietuvių", "ltg": "Latgalīšu", "lv": "Latviešu", "mk": "Македонски", "ml": "മലയാളം",
    "mr": "मराठी", "ms": "Bahasa Melayu", "mt": "Malti", "my": "မြန်မာ", "nb": "Norsk bokmål",
    "ne": "नेपाली", "nl": "Nederlands", "no": "Norsk", "om": "Oromoo", "or": "ଓଡ଼ିଆ",
    "pa": "ਪੰਜਾਬੀ", "pap": "Papiamentu", "pl": "Polski", "pt": "Português", "qu": "Runasimi",
    "ro": "Română", "ru": "Русский", "sd": "سنڌي", "shn": "တႆး",
    "si": "සිංහල", "sk": "Slovenčina", "sl": "Slovenščina", "smj": "Julevsámegiella",
    "sq": "Shqip", "sr": "Српски", "sv": "Svenska", "sw": "Kiswahili", "ta": "தமிழ்",
    "te": "తెలుగు", "th": "ไทย", "ti": "ትግርኛ", "tk": "Türkmençe", "tr": "Türkçe", "tt": "Татар",
    "ug": "ئۇيغۇرچە", "uk": "Українська", "ur": "اردو", "uz": "O‘zbek", "vi": "Tiếng Việt",
    "yue": "粵語", "zh": "中文",
}  # fmt: skip
