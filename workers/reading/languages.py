"""Name the languages that data files mention, and bring their codes into one form.

The normalised code is the two-letter ISO 639-1 code (three letters where there is none), with a script or
region only if it is not the language's main one: de_DE and deu_Latn are "de", pt_BR stays "pt_BR", zho_Hant
is "zh_TW". Main regions follow WMT24++ (https://arxiv.org/abs/2502.12404); a language that it has twice has
none.
"""

import re
from functools import lru_cache

LANGUAGE_NAMES: dict[str, str] = {
    "af": "Afrikaans", "ak": "Akan", "am": "Amharic", "ar": "Arabic", "as": "Assamese", "ast": "Asturian",
    "ay": "Aymara", "az": "Azerbaijani", "ba": "Bashkir", "be": "Belarusian", "bem": "Bemba",
    "bg": "Bulgarian", "bho": "Bhojpuri", "bm": "Bambara", "bn": "Bengali", "bo": "Tibetan", "br": "Breton",
    "bs": "Bosnian", "ca": "Catalan", "ceb": "Cebuano", "ckb": "Central Kurdish", "cs": "Czech",
    "cv": "Chuvash", "cy": "Welsh", "da": "Danish", "de": "German", "dsb": "Lower Sorbian", "dz": "Dzongkha",
    "ee": "Ewe", "el": "Greek", "en": "English", "eo": "Esperanto", "es": "Spanish", "et": "Estonian",
    "eu": "Basque", "fa": "Persian", "ff": "Fulah", "fi": "Finnish", "fil": "Filipino", "fj": "Fijian",
    "fo": "Faroese", "fr": "French", "fy": "Western Frisian", "ga": "Irish", "gd": "Scottish Gaelic",
    "gl": "Galician", "gn": "Guarani", "gu": "Gujarati", "ha": "Hausa", "he": "Hebrew", "hi": "Hindi",
    "hr": "Croatian", "hsb": "Upper Sorbian", "ht": "Haitian Creole", "hu": "Hungarian", "hy": "Armenian",
    "id": "Indonesian", "ig": "Igbo", "ilo": "Ilocano", "is": "Icelandic", "it": "Italian", "iu": "Inuktitut",
    "ja": "Japanese", "jv": "Javanese", "ka": "Georgian", "kg": "Kongo", "ki": "Kikuyu", "kk": "Kazakh",
    "km": "Khmer", "kn": "Kannada", "ko": "Korean", "ks": "Kashmiri", "ku": "Kurdish", "ky": "Kyrgyz",
    "la": "Latin", "lb": "Luxembourgish", "lg": "Ganda", "li": "Limburgish", "liv": "Livonian",
    "ln": "Lingala", "lo": "Lao", "lt": "Lithuanian", "luo": "Luo", "lv": "Latvian", "mai": "Maithili",
    "mas": "Maasai", "mg": "Malagasy", "mi": "Maori", "mk": "Macedonian", "ml": "Malayalam",
    "mn": "Mongolian", "mni": "Manipuri", "mr": "Marathi", "ms": "Malay", "mt": "Maltese", "my": "Burmese",
    "nb": "Norwegian Bokmål", "ne": "Nepali", "nl": "Dutch", "nn": "Norwegian Nynorsk", "no": "Norwegian",
    "nso": "Northern Sotho", "ny": "Nyanja", "oc": "Occitan", "om": "Oromo", "or": "Odia", "pa": "Punjabi",
    "pl": "Polish", "ps": "Pashto", "pt": "Portuguese", "qu": "Quechua", "rn": "Rundi", "ro": "Romanian",
    "ru": "Russian", "rw": "Kinyarwanda", "sa": "Sanskrit", "sah": "Yakut", "sc": "Sardinian", "sd": "Sindhi",
    "se": "Northern Sami", "si": "Sinhala", "sk": "Slovak", "sl": "Slovenian", "sm": "Samoan", "sn": "Shona",
    "so": "Somali", "sq": "Albanian", "sr": "Serbian", "ss": "Swati", "st": "Southern Sotho",
    "su": "Sundanese", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "tg": "Tajik",
    "th": "Thai", "ti": "Tigrinya", "tk": "Turkmen", "tl": "Tagalog", "tn": "Tswana", "tr": "Turkish",
    "ts": "Tsonga", "tt": "Tatar", "ug": "Uyghur", "uk": "Ukrainian", "ur": "Urdu", "uz": "Uzbek",
    "vi": "Vietnamese", "wo": "Wolof", "xh": "Xhosa", "yi": "Yiddish", "yo": "Yoruba", "yue": "Cantonese",
    "zh": "Chinese", "zu": "Zulu",
}  # fmt: skip

ISO_639_3: dict[str, str] = {
    "afr": "af", "aka": "ak", "als": "sq", "amh": "am", "ara": "ar", "arb": "ar", "ars": "ar_SA",
    "arz": "ar_EG", "asm": "as", "ayr": "ay", "aze": "az", "azj": "az", "bak": "ba", "bam": "bm", "bel": "be",
    "ben": "bn", "bod": "bo", "bos": "bs", "bre": "br", "bul": "bg", "cat": "ca", "ces": "cs", "chv": "cv",
    "cmn": "zh", "cym": "cy", "dan": "da", "deu": "de", "dzo": "dz", "ekk": "et", "ell": "el", "eng": "en",
    "epo": "eo", "est": "et", "eus": "eu", "ewe": "ee", "fao": "fo", "fas": "fa", "fij": "fj", "fin": "fi",
    "fra": "fr", "fry": "fy", "ful": "ff", "fuv": "ff", "gaz": "om", "gla": "gd", "gle": "ga", "glg": "gl",
    "grn": "gn", "guj": "gu", "hat": "ht", "hau": "ha", "heb": "he", "hin": "hi", "hrv": "hr", "hun": "hu",
    "hye": "hy", "ibo": "ig", "iku": "iu", "ind": "id", "isl": "is", "ita": "it", "jav": "jv", "jpn": "ja",
    "kan": "kn", "kas": "ks", "kat": "ka", "kaz": "kk", "khk": "mn", "khm": "km", "kik": "ki", "kin": "rw",
    "kir": "ky", "kmr": "ku", "kon": "kg", "kor": "ko", "kur": "ku", "lao": "lo", "lat": "la", "lav": "lv",
    "lim": "li", "lin": "ln", "lit": "lt", "ltz": "lb", "lug": "lg", "lvs": "lv", "mal": "ml", "mar": "mr",
    "mkd": "mk", "mlg": "mg", "mlt": "mt", "mon": "mn", "mri": "mi", "msa": "ms", "mya": "my", "nep": "ne",
    "nld": "nl", "nno": "nn", "nob": "nb", "nor": "no", "npi": "ne", "nya": "ny", "oci": "oc", "ori": "or",
    "orm": "om", "ory": "or", "pan": "pa", "pbt": "ps", "pes": "fa", "plt": "mg", "pol": "pl", "por": "pt",
    "pus": "ps", "que": "qu", "quy": "qu", "ron": "ro", "run": "rn", "rus": "ru", "san": "sa", "sin": "si",
    "slk": "sk", "slv": "sl", "sme": "se", "smo": "sm", "sna": "sn", "snd": "sd", "som": "so", "sot": "st",
    "spa": "es", "sqi": "sq", "srd": "sc", "srp": "sr", "ssw": "ss", "sun": "su", "swa": "sw", "swe": "sv",
    "swh": "sw", "tam": "ta", "tat": "tt", "tel": "te", "tgk": "tg", "tgl": "tl", "tha": "th", "tir": "ti",
    "tsn": "tn", "tso": "ts", "tuk": "tk", "tur": "tr", "twi": "ak", "uig": "ug", "ukr": "uk", "urd": "ur",
    "uzb": "uz", "uzn": "uz", "vie": "vi", "wol": "wo", "xho": "xh", "ydd": "yi", "yid": "yi", "yor": "yo",
    "zho": "zh", "zsm": "ms", "zul": "zu",
}  # fmt: skip

MAIN_REGION: dict[str, str] = {
    "bg": "BG", "bho": "IN", "bn": "IN", "ca": "ES", "cs": "CZ", "da": "DK", "de": "DE", "el": "GR",
    "en": "US", "es": "MX", "et": "EE", "fa": "IR", "fi": "FI", "fil": "PH", "fr": "FR", "gu": "IN",
    "he": "IL", "hi": "IN", "hr": "HR", "hu": "HU", "id": "ID", "is": "IS", "it": "IT", "ja": "JP",
    "kn": "IN", "ko": "KR", "lt": "LT", "lv": "LV", "mas": "KE", "ml": "IN", "mr": "IN", "nl": "NL",
    "no": "NO", "pa": "IN", "pl": "PL", "ro": "RO", "ru": "RU", "sk": "SK", "sl": "SI", "sr": "RS",
    "sv": "SE", "ta": "IN", "te": "IN", "th": "TH", "tr": "TR", "uk": "UA", "ur": "PK", "vi": "VN",
    "zh": "CN", "zu": "ZA",
}  # fmt: skip

# Languages that are written in the Latin script are not listed.
MAIN_SCRIPT: dict[str, str] = {
    "am": "Ethi", "ar": "Arab", "as": "Beng", "ba": "Cyrl", "be": "Cyrl", "bg": "Cyrl", "bho": "Deva",
    "bn": "Beng", "bo": "Tibt", "ckb": "Arab", "cv": "Cyrl", "dz": "Tibt", "el": "Grek", "fa": "Arab",
    "gu": "Gujr", "he": "Hebr", "hi": "Deva", "hy": "Armn", "iu": "Cans", "ja": "Jpan", "ka": "Geor",
    "kk": "Cyrl", "km": "Khmr", "kn": "Knda", "ko": "Hang", "ks": "Arab", "ky": "Cyrl", "lo": "Laoo",
    "mai": "Deva", "mk": "Cyrl", "ml": "Mlym", "mn": "Cyrl", "mni": "Beng", "mr": "Deva", "my": "Mymr",
    "ne": "Deva", "or": "Orya", "pa": "Guru", "ps": "Arab", "ru": "Cyrl", "sa": "Deva", "sah": "Cyrl",
    "sd": "Arab", "si": "Sinh", "sr": "Cyrl", "ta": "Taml", "te": "Telu", "tg": "Cyrl", "th": "Thai",
    "ti": "Ethi", "tt": "Cyrl", "ug": "Arab", "uk": "Cyrl", "ur": "Arab", "yi": "Hebr", "yue": "Hant",
    "zh": "Hans",
}  # fmt: skip

_REGION = re.compile(r"[A-Za-z]{2}|[0-9]{3}", re.ASCII)
_SCRIPT = re.compile(r"[A-Za-z]{4}", re.ASCII)
_SUBTAG = re.compile(r"[A-Z]{2}|[A-Z][a-z]{3}|[0-9]{3}", re.ASCII)


class UnknownLanguage(ValueError):
    """A language code, or a pair of them, that is not known; its text says what is expected."""


def language_name(code: str) -> str:
    """Return the English name of a language, region and script left out: "German", "Chinese" for zh_TW.

    Raises UnknownLanguage (a ValueError) for a code that is in neither table.
    """
    return LANGUAGE_NAMES[normalise_language(code).split("_")[0]]


@lru_cache(maxsize=1024)
def normalise_language(code: str) -> str:
    """Return the one form of a language code: "de" for de_DE, deu and deu_Latn; "pt_BR" for pt-BR and por_BR.

    Raises UnknownLanguage for a language that is not in the tables or a subtag that is no script or region.
    """
    first, *subtags = re.split("[_-]", code.strip())
    language, _, region = ISO_639_3.get(first.lower(), first.lower()).partition("_")
    script = ""
    for subtag in subtags:
        if _SCRIPT.fullmatch(subtag):
            script = subtag.title()
        elif _REGION.fullmatch(subtag):
            region = subtag.upper()
        else:
            raise UnknownLanguage(f"unknown language code {code!r}")
    if language not in LANGUAGE_NAMES:
        raise UnknownLanguage(f"unknown language code {code!r}")
    return "_".join([language, *_telling_subtags(language, script, region)])


def _telling_subtags(language: str, script: str, region: str) -> list[str]:
    """Return the script and the region, each only if it is not the language's main one."""
    if (language, script) == ("zh", "Hant"):
        script, region = "", region or "TW"
    if script == MAIN_SCRIPT.get(language, "Latn") or (language, script) == ("ko", "Kore"):
        script = ""
    if region == MAIN_REGION.get(language):
        region = ""
    return [subtag for subtag in (script, region) if subtag]


@lru_cache(maxsize=1024)
def normalise_pair(langs: str) -> str:
    """Return a language pair in its one form: "en-de" for en-de_DE, eng-deu and EN-DE.

    Raises UnknownLanguage for an unknown code, for anything but two codes, and for a language with itself.
    """
    codes = langs.split("-") if langs.count("-") == 1 else _joined_subtags(langs.split("-"))
    if len(codes) != 2:
        raise UnknownLanguage(f"unknown pair {langs!r}: a pair is two language codes, such as en-de")
    try:
        source, target = (normalise_language(code) for code in codes)
    except UnknownLanguage as error:
        raise UnknownLanguage(f"unknown pair {langs!r}: {error}") from None
    if source == target:
        raise UnknownLanguage(f"unknown pair {langs!r}: source and target language are the same")
    return f"{source}-{target}"


def split_pair(langs: str) -> tuple[str, str]:
    """Return the source and the target code of a normalised pair."""
    source, _, target = langs.partition("-")
    return source, target


def _joined_subtags(parts: list[str]) -> list[str]:
    """Join a region or script to the language before it: ["en", "pt", "BR"] gives ["en", "pt_BR"]."""
    codes: list[str] = []
    for part in parts:
        if codes and _SUBTAG.fullmatch(part):
            codes[-1] += f"_{part}"
        else:
            codes.append(part)
    return codes
