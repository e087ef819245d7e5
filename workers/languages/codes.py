"""Name the languages that data files mention, and bring their codes into one form.

The normalised code is the two-letter ISO 639-1 code (three letters where there is none), with a script or
region only if it is not the language's main one: de_DE and deu_Latn are "de", pt_BR stays "pt_BR", zho_Hant
is "zh_TW". Main regions follow WMT24++ (https://arxiv.org/abs/2502.12404); a language that it has twice has
none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from workers.languages.variants import variant_name

LANGUAGE_NAMES: dict[str, str] = {
    "aa": "Afar", "ab": "Abkhaz", "ace": "Acehnese", "acm": "Mesopotamian Arabic",
    "acq": "Ta'izzi-Adeni Arabic", "aeb": "Tunisian Arabic", "af": "Afrikaans",
    "ajp": "South Levantine Arabic", "ak": "Akan", "am": "Amharic", "an": "Aragonese",
    "apc": "North Levantine Arabic", "ar": "Arabic", "ary": "Moroccan Arabic", "as": "Assamese",
    "ast": "Asturian", "av": "Avaric", "awa": "Awadhi", "ay": "Aymara", "az": "Azerbaijani",
    "azb": "South Azerbaijani", "ba": "Bashkir", "ban": "Balinese", "be": "Belarusian", "bem": "Bemba",
    "bg": "Bulgarian", "bho": "Bhojpuri", "bi": "Bislama", "bjn": "Banjar", "bm": "Bambara", "bn": "Bengali",
    "bo": "Tibetan", "br": "Breton", "brx": "Bodo", "bs": "Bosnian", "bug": "Buginese", "ca": "Catalan",
    "ce": "Chechen", "ceb": "Cebuano", "ch": "Chamorro", "cjk": "Chokwe", "ckb": "Central Kurdish",
    "co": "Corsican", "cr": "Cree", "crh": "Crimean Tatar", "cs": "Czech", "cv": "Chuvash", "cy": "Welsh",
    "da": "Danish", "de": "German", "dik": "Southwestern Dinka", "doi": "Dogri", "dsb": "Lower Sorbian",
    "dv": "Dhivehi", "dyu": "Dyula", "dz": "Dzongkha", "ee": "Ewe", "el": "Greek", "en": "English",
    "eo": "Esperanto", "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "ff": "Fulah",
    "fi": "Finnish", "fil": "Filipino", "fj": "Fijian", "fo": "Faroese", "fon": "Fon", "fr": "French",
    "fur": "Friulian", "fy": "Western Frisian", "ga": "Irish", "gd": "Scottish Gaelic", "gl": "Galician",
    "gn": "Guarani", "gom": "Goan Konkani", "gu": "Gujarati", "gv": "Manx", "ha": "Hausa", "he": "Hebrew",
    "hi": "Hindi", "hne": "Chhattisgarhi", "hr": "Croatian", "hsb": "Upper Sorbian", "ht": "Haitian Creole",
    "hu": "Hungarian", "hy": "Armenian", "hz": "Herero", "ia": "Interlingua", "id": "Indonesian",
    "ig": "Igbo", "ii": "Sichuan Yi", "ilo": "Ilocano", "io": "Ido", "is": "Icelandic", "it": "Italian",
    "iu": "Inuktitut", "ja": "Japanese", "jv": "Javanese", "ka": "Georgian", "kaa": "Karakalpak",
    "kab": "Kabyle", "kac": "Jingpho", "kam": "Kamba", "kbp": "Kabiyè", "kea": "Kabuverdianu", "kg": "Kongo",
    "ki": "Kikuyu", "kk": "Kazakh", "kl": "Greenlandic", "km": "Khmer", "kmb": "Kimbundu", "kn": "Kannada",
    "ko": "Korean", "kr": "Kanuri", "ks": "Kashmiri", "ku": "Kurdish", "kv": "Komi", "kw": "Cornish",
    "ky": "Kyrgyz", "la": "Latin", "lb": "Luxembourgish", "lg": "Ganda", "li": "Limburgish",
    "lij": "Ligurian", "liv": "Livonian", "lld": "Ladin", "lmo": "Lombard", "ln": "Lingala", "lo": "Lao",
    "lt": "Lithuanian", "ltg": "Latgalian", "lu": "Luba-Katanga", "lua": "Luba-Kasai", "luo": "Luo",
    "lus": "Mizo", "lv": "Latvian", "lzh": "Literary Chinese", "mag": "Magahi", "mai": "Maithili",
    "mas": "Maasai", "mg": "Malagasy", "mh": "Marshallese", "mhr": "Meadow Mari", "mi": "Maori",
    "min": "Minangkabau", "mk": "Macedonian", "ml": "Malayalam", "mn": "Mongolian", "mni": "Manipuri",
    "mos": "Mossi", "mr": "Marathi", "ms": "Malay", "mt": "Maltese", "my": "Burmese", "myv": "Erzya",
    "nb": "Norwegian Bokmål", "nd": "North Ndebele", "ne": "Nepali", "nl": "Dutch", "nn": "Norwegian Nynorsk",
    "no": "Norwegian", "nqo": "N'Ko", "nr": "South Ndebele", "nso": "Northern Sotho", "nus": "Nuer",
    "nv": "Navajo", "ny": "Nyanja", "oc": "Occitan", "oj": "Ojibwe", "om": "Oromo", "or": "Odia",
    "os": "Ossetian", "pa": "Punjabi", "pag": "Pangasinan", "pap": "Papiamento", "pl": "Polish",
    "prs": "Dari", "ps": "Pashto", "pt": "Portuguese", "qu": "Quechua", "rm": "Romansh", "rn": "Rundi",
    "ro": "Romanian", "ru": "Russian", "rw": "Kinyarwanda", "sa": "Sanskrit", "sah": "Yakut",
    "sat": "Santali", "sc": "Sardinian", "scn": "Sicilian", "sd": "Sindhi", "se": "Northern Sami",
    "sg": "Sango", "shn": "Shan", "si": "Sinhala", "sk": "Slovak", "sl": "Slovenian", "sm": "Samoan",
    "sn": "Shona", "so": "Somali", "sq": "Albanian", "sr": "Serbian", "ss": "Swati", "st": "Southern Sotho",
    "su": "Sundanese", "sv": "Swedish", "sw": "Swahili", "szl": "Silesian", "ta": "Tamil", "taq": "Tamasheq",
    "te": "Telugu", "tg": "Tajik", "th": "Thai", "ti": "Tigrinya", "tk": "Turkmen", "tl": "Tagalog",
    "tn": "Tswana", "to": "Tongan", "tpi": "Tok Pisin", "tr": "Turkish", "ts": "Tsonga", "tt": "Tatar",
    "tum": "Tumbuka", "ty": "Tahitian", "tyv": "Tuvan", "tzm": "Central Atlas Tamazight", "udm": "Udmurt",
    "ug": "Uyghur", "uk": "Ukrainian", "umb": "Umbundu", "ur": "Urdu", "uz": "Uzbek", "ve": "Venda",
    "vec": "Venetian", "vi": "Vietnamese", "vmw": "Makhuwa", "vo": "Volapük", "wa": "Walloon", "war": "Waray",
    "wo": "Wolof", "wuu": "Wu Chinese", "xh": "Xhosa", "yi": "Yiddish", "yo": "Yoruba", "yue": "Cantonese",
    "za": "Zhuang", "zh": "Chinese", "zu": "Zulu",
}  # fmt: skip

ISO_639_3: dict[str, str] = {
    "aar": "aa", "abk": "ab", "afr": "af", "aka": "ak", "als": "sq", "amh": "am", "ara": "ar", "arb": "ar",
    "arg": "an", "ars": "ar_SA", "arz": "ar_EG", "asm": "as", "ava": "av", "ayr": "ay", "aze": "az",
    "azj": "az", "bak": "ba", "bam": "bm", "bel": "be", "ben": "bn", "bis": "bi", "bod": "bo", "bos": "bs",
    "bre": "br", "bul": "bg", "cat": "ca", "ces": "cs", "cha": "ch", "che": "ce", "chv": "cv", "cmn": "zh",
    "cor": "kw", "cos": "co", "cre": "cr", "cym": "cy", "dan": "da", "deu": "de", "div": "dv", "dzo": "dz",
    "ekk": "et", "ell": "el", "eng": "en", "epo": "eo", "est": "et", "eus": "eu", "ewe": "ee", "fao": "fo",
    "fas": "fa", "fij": "fj", "fin": "fi", "fra": "fr", "fry": "fy", "ful": "ff", "fuv": "ff", "gaz": "om",
    "gla": "gd", "gle": "ga", "glg": "gl", "glv": "gv", "grn": "gn", "guj": "gu", "hat": "ht", "hau": "ha",
    "heb": "he", "her": "hz", "hin": "hi", "hrv": "hr", "hun": "hu", "hye": "hy", "ibo": "ig", "ido": "io",
    "iii": "ii", "iku": "iu", "ina": "ia", "ind": "id", "isl": "is", "ita": "it", "jav": "jv", "jpn": "ja",
    "kal": "kl", "kan": "kn", "kas": "ks", "kat": "ka", "kau": "kr", "kaz": "kk", "khk": "mn", "khm": "km",
    "kik": "ki", "kin": "rw", "kir": "ky", "kmr": "ku", "knc": "kr", "kom": "kv", "kon": "kg", "kor": "ko",
    "kur": "ku", "lao": "lo", "lat": "la", "lav": "lv", "lim": "li", "lin": "ln", "lit": "lt", "ltz": "lb",
    "lub": "lu", "lug": "lg", "lvs": "lv", "mah": "mh", "mal": "ml", "mar": "mr", "mkd": "mk", "mlg": "mg",
    "mlt": "mt", "mon": "mn", "mri": "mi", "msa": "ms", "mya": "my", "nav": "nv", "nbl": "nr", "nde": "nd",
    "nep": "ne", "nld": "nl", "nno": "nn", "nob": "nb", "nor": "no", "npi": "ne", "nya": "ny", "oci": "oc",
    "oji": "oj", "ori": "or", "orm": "om", "ory": "or", "oss": "os", "pan": "pa", "pbt": "ps", "pes": "fa",
    "plt": "mg", "pol": "pl", "por": "pt", "pus": "ps", "que": "qu", "quy": "qu", "roh": "rm", "ron": "ro",
    "run": "rn", "rus": "ru", "sag": "sg", "san": "sa", "sin": "si", "slk": "sk", "slv": "sl", "sme": "se",
    "smo": "sm", "sna": "sn", "snd": "sd", "som": "so", "sot": "st", "spa": "es", "sqi": "sq", "srd": "sc",
    "srp": "sr", "ssw": "ss", "sun": "su", "swa": "sw", "swe": "sv", "swh": "sw", "tah": "ty", "tam": "ta",
    "tat": "tt", "tel": "te", "tgk": "tg", "tgl": "tl", "tha": "th", "tir": "ti", "ton": "to", "tsn": "tn",
    "tso": "ts", "tuk": "tk", "tur": "tr", "twi": "ak", "uig": "ug", "ukr": "uk", "urd": "ur", "uzb": "uz",
    "uzn": "uz", "ven": "ve", "vie": "vi", "vol": "vo", "wln": "wa", "wol": "wo", "xho": "xh", "ydd": "yi",
    "yid": "yi", "yor": "yo", "zha": "za", "zho": "zh", "zsm": "ms", "zul": "zu",
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
    "ab": "Cyrl", "acm": "Arab", "acq": "Arab", "aeb": "Arab", "ajp": "Arab", "am": "Ethi", "apc": "Arab",
    "ar": "Arab", "ary": "Arab", "as": "Beng", "av": "Cyrl", "awa": "Deva", "azb": "Arab", "ba": "Cyrl",
    "be": "Cyrl", "bg": "Cyrl", "bho": "Deva", "bn": "Beng", "bo": "Tibt", "brx": "Deva", "ce": "Cyrl",
    "ckb": "Arab", "cr": "Cans", "cv": "Cyrl", "doi": "Deva", "dv": "Thaa", "dz": "Tibt", "el": "Grek",
    "fa": "Arab", "gom": "Deva", "gu": "Gujr", "he": "Hebr", "hi": "Deva", "hne": "Deva", "hy": "Armn",
    "ii": "Yiii", "iu": "Cans", "ja": "Jpan", "ka": "Geor", "kk": "Cyrl", "km": "Khmr", "kn": "Knda",
    "ko": "Hang", "ks": "Arab", "kv": "Cyrl", "ky": "Cyrl", "lo": "Laoo", "lzh": "Hant", "mag": "Deva",
    "mai": "Deva", "mhr": "Cyrl", "mk": "Cyrl", "ml": "Mlym", "mn": "Cyrl", "mni": "Beng", "mr": "Deva",
    "my": "Mymr", "myv": "Cyrl", "ne": "Deva", "nqo": "Nkoo", "or": "Orya", "os": "Cyrl", "pa": "Guru",
    "prs": "Arab", "ps": "Arab", "ru": "Cyrl", "sa": "Deva", "sah": "Cyrl", "sat": "Olck", "sd": "Arab",
    "shn": "Mymr", "si": "Sinh", "sr": "Cyrl", "ta": "Taml", "te": "Telu", "tg": "Cyrl", "th": "Thai",
    "ti": "Ethi", "tt": "Cyrl", "tyv": "Cyrl", "tzm": "Tfng", "udm": "Cyrl", "ug": "Arab", "uk": "Cyrl",
    "ur": "Arab", "wuu": "Hans", "yi": "Hebr", "yue": "Hant", "zh": "Hans",
}  # fmt: skip

_REGION = re.compile(r"[A-Za-z]{2}|[0-9]{3}", re.ASCII)
_SCRIPT = re.compile(r"[A-Za-z]{4}", re.ASCII)
_SUBTAG = re.compile(r"[A-Z]{2}|[A-Z][a-z]{3}|[0-9]{3}", re.ASCII)


_CODE = re.compile(r"[a-z]{2,8}", re.ASCII)
# What `name_languages` was told last, by normalised code.
_given: dict[str, str] = {}


class UnknownLanguage(ValueError):
    """A language code, or a pair of them, that is not known; its text says what is expected."""


def name_languages(names: Mapping[str, str]) -> None:
    """Know these codes by these names in this process, and no others that were given before; `{"xx": "Name"}`.

    A code that the tables know takes the name too; one with a script or region names that variant alone. Raises
    UnknownLanguage for a code that can't be one, or a name that is empty.
    """
    codes = {code: re.split("[_-]", code.strip())[0].lower() for code in names}
    for code, name in names.items():
        if not _CODE.fullmatch(codes[code]):
            raise UnknownLanguage(f"{code!r} can't be a language code: it begins with two to eight letters")
        if not name.strip():
            raise UnknownLanguage(f"the language code {code!r} has an empty name")
    before = dict(_given)
    try:
        _know({ISO_639_3.get(base, base): "" for base in codes.values()})
        _know({normalise_language(code): name.strip() for code, name in names.items()})
    except UnknownLanguage:
        _know(before)
        raise


def given_names() -> dict[str, str]:
    """The names that this process was given, for another that works for it."""
    return {code: name for code, name in _given.items() if name}


def _know(names: Mapping[str, str]) -> None:
    _given.clear()
    _given.update(names)
    normalise_language.cache_clear()
    normalise_pair.cache_clear()


def language_name(code: str) -> str:
    """The English name of a language, with the script and region that set it apart from its main form: "German" for
    de_DE, "German (Austria)" for de_AT, "Chinese (Traditional, Taiwan)" for zho_Hant.

    Raises UnknownLanguage (a ValueError) for a code that is in neither table and was not given a name.
    """
    normalised = normalise_language(code)
    if normalised in _given:
        return _given[normalised]
    language, *subtags = normalised.split("_")
    name = _given.get(language) or LANGUAGE_NAMES.get(language, language)
    return variant_name(name, language, subtags)


def special_names(codes: Iterable[str]) -> dict[str, str]:
    """code -> its name, for those of these codes that do not go by the plain name of their language."""
    named = {code: language_name(code) for code in codes}
    return {code: name for code, name in sorted(named.items()) if name != LANGUAGE_NAMES.get(code.split("_")[0])}


@lru_cache(maxsize=1024)
def normalise_language(code: str) -> str:
    """The one form of a language code: "de" for de_DE, deu and deu_Latn; "pt_BR" for pt-BR and por_BR.

    Raises UnknownLanguage for a language that is not in the tables or a subtag that is neither a script nor a region.
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
    if language not in LANGUAGE_NAMES and not any(given.split("_")[0] == language for given in _given):
        raise UnknownLanguage(f"unknown language code {code!r}")
    return "_".join([language, *_telling_subtags(language, script, region)])


def _telling_subtags(language: str, script: str, region: str) -> list[str]:
    """The script and the region, each only if it is not the language's main one."""
    if (language, script) == ("zh", "Hant"):
        script, region = "", region or "TW"
    if script == MAIN_SCRIPT.get(language, "Latn") or (language, script) == ("ko", "Kore"):
        script = ""
    if region == MAIN_REGION.get(language):
        region = ""
    return [subtag for subtag in (script, region) if subtag]


@lru_cache(maxsize=1024)
def normalise_pair(langs: str) -> str:
    """A language pair in its one form: "en-de" for en-de_DE, eng-deu and EN-DE.

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
    """The source and the target code of a normalised pair."""
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
