package modelhost

import "strings"

// language is one that m2m100 translates: its code there (ISO 639-1 where there is one), the three-letter code that
// Apertium names its data by, and the name in English.
type language struct{ code, alpha3, name string }

// languages of the published m2m100 models, 100 in all.
var languages = []language{
	{"af", "afr", "afrikaans"}, {"am", "amh", "amharic"}, {"ar", "ara", "arabic"}, {"ast", "ast", "asturian"},
	{"az", "aze", "azerbaijani"}, {"ba", "bak", "bashkir"}, {"be", "bel", "belarusian"}, {"bg", "bul", "bulgarian"},
	{"bn", "ben", "bengali"}, {"br", "bre", "breton"}, {"bs", "bos", "bosnian"}, {"ca", "cat", "catalan"},
	{"ceb", "ceb", "cebuano"}, {"cs", "ces", "czech"}, {"cy", "cym", "welsh"}, {"da", "dan", "danish"},
	{"de", "deu", "german"}, {"el", "ell", "greek"}, {"en", "eng", "english"}, {"es", "spa", "spanish"},
	{"et", "est", "estonian"}, {"fa", "fas", "persian"}, {"ff", "ful", "fulah"}, {"fi", "fin", "finnish"},
	{"fr", "fra", "french"}, {"fy", "fry", "western frisian"}, {"ga", "gle", "irish"}, {"gd", "gla", "scottish gaelic"},
	{"gl", "glg", "galician"}, {"gu", "guj", "gujarati"}, {"ha", "hau", "hausa"}, {"he", "heb", "hebrew"},
	{"hi", "hin", "hindi"}, {"hr", "hrv", "croatian"}, {"ht", "hat", "haitian creole"}, {"hu", "hun", "hungarian"},
	{"hy", "hye", "armenian"}, {"id", "ind", "indonesian"}, {"ig", "ibo", "igbo"}, {"ilo", "ilo", "iloko"},
	{"is", "isl", "icelandic"}, {"it", "ita", "italian"}, {"ja", "jpn", "japanese"}, {"jv", "jav", "javanese"},
	{"ka", "kat", "georgian"}, {"kk", "kaz", "kazakh"}, {"km", "khm", "khmer"}, {"kn", "kan", "kannada"},
	{"ko", "kor", "korean"}, {"lb", "ltz", "luxembourgish"}, {"lg", "lug", "ganda"}, {"ln", "lin", "lingala"},
	{"lo", "lao", "lao"}, {"lt", "lit", "lithuanian"}, {"lv", "lav", "latvian"}, {"mg", "mlg", "malagasy"},
	{"mk", "mkd", "macedonian"}, {"ml", "mal", "malayalam"}, {"mn", "mon", "mongolian"}, {"mr", "mar", "marathi"},
	{"ms", "msa", "malay"}, {"my", "mya", "burmese"}, {"ne", "nep", "nepali"}, {"nl", "nld", "dutch"},
	{"no", "nob", "norwegian"}, {"ns", "nso", "northern sotho"}, {"oc", "oci", "occitan"}, {"or", "ori", "oriya"},
	{"pa", "pan", "punjabi"}, {"pl", "pol", "polish"}, {"ps", "pus", "pashto"}, {"pt", "por", "portuguese"},
	{"ro", "ron", "romanian"}, {"ru", "rus", "russian"}, {"sd", "snd", "sindhi"}, {"si", "sin", "sinhala"},
	{"sk", "slk", "slovak"}, {"sl", "slv", "slovenian"}, {"so", "som", "somali"}, {"sq", "sqi", "albanian"},
	{"sr", "srp", "serbian"}, {"ss", "ssw", "swati"}, {"su", "sun", "sundanese"}, {"sv", "swe", "swedish"},
	{"sw", "swa", "swahili"}, {"ta", "tam", "tamil"}, {"th", "tha", "thai"}, {"tl", "tgl", "tagalog"},
	{"tn", "tsn", "tswana"}, {"tr", "tur", "turkish"}, {"uk", "ukr", "ukrainian"}, {"ur", "urd", "urdu"},
	{"uz", "uzb", "uzbek"}, {"vi", "vie", "vietnamese"}, {"wo", "wol", "wolof"}, {"xh", "xho", "xhosa"},
	{"yi", "yid", "yiddish"}, {"yo", "yor", "yoruba"}, {"zh", "zho", "chinese"}, {"zu", "zul", "zulu"},
}

// findLanguage takes a code of two or three letters, with or without a region (pt-BR), or an English name, in any case.
func findLanguage(text string) (language, bool) {
	want := strings.ToLower(strings.TrimSpace(text))
	base, _, _ := strings.Cut(strings.ReplaceAll(want, "_", "-"), "-")
	for _, l := range languages {
		if want == l.name || base == l.code || base == l.alpha3 {
			return l, true
		}
	}
	return language{}, false
}
