package store

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// functionWords are the commonest words of languages in Latin script, without accents: they make up a third of any text and
// are seldom those of another language. Words of several languages stand in each.
var functionWords = map[string]string{
	"en": "the of and to in is are was were be for with that this these those which what how why when where who does do did has have had not from by on at it its as or can will would should an if than then there their they you your we our i my he she his her but a into about between over after through using via such some any more most other been being also while because only all both each no so comment",
	"es": "el la los las un una unos unas de del y en que es son fue era ser para por con este esta esto estos estas ese esa lo se su sus no como cuando donde quien cual cuales cuanto cuantos cuanta cuantas al mas pero porque si hay tiene tienen puede pueden ha han yo me mi tu te nos sobre entre desde hasta cuesta",
	"fr": "le la les un une des de du et en est sont etait etre pour par avec ce cet cette ces qui que quoi dont ou ne pas se son sa ses comment quand pourquoi quel quelle quels quelles combien au aux plus mais si il elle ils elles on nous vous je leur a ont peut dans sur qu",
	"de": "der die das den dem des ein eine einen einem einer eines und in ist sind war waren sein fur mit von zu zum zur auf nicht sich wie wann warum wo wer was welche welcher welches wird werden wurde hat haben auch als an aus bei nach oder aber wenn man er sie es ich wir ihr kann konnen im am um uber lange",
	"pt": "o a os as um uma uns umas de do da dos das e em no na nos nas que e sao foi era ser para por com este esta isto esse essa se seu sua seus suas nao como quando onde quem qual quais quanto quantos ao mais mas porque ha tem pode podem pelo pela eu me meu ele ela voce sobre entre ate",
	"it": "il lo la i gli le un uno una di del della dei delle e in che sono era essere per con questo questa questi queste si suo sua non come quando dove chi quale quali quanto quanti al alla piu ma perche se ha hanno puo da dal dalla nel nella sul sulla io mi ci anche",
	"nl": "de het een van en in is zijn was waren voor met dat die deze dit wat hoe waarom wanneer waar wie welke wordt worden werd heeft hebben niet op aan te bij naar om uit of maar als dan er hij zij ze ik wij je kan kunnen ook door over",
	"sv": "den det en ett och i ar var som for med att av pa till inte hur varfor nar vem vilken vilka vad har hade om de han hon vi jag du kan ska sig fran eller men sa ocksa",
}

// languagesOf a function word.
var languagesOf = func() map[string][]string {
	m := map[string][]string{}
	for language, list := range functionWords {
		seen := map[string]bool{}
		for word := range strings.FieldsSeq(list) {
			if !seen[word] {
				m[word] = append(m[word], language)
			}
			seen[word] = true
		}
	}
	return m
}()

// scripts that tell their language. Japanese has signs of its own beside the Chinese ones.
var scripts = []struct {
	table    *unicode.RangeTable
	language string
}{
	{unicode.Hiragana, "ja"}, {unicode.Katakana, "ja"}, {unicode.Hangul, "ko"}, {unicode.Han, "zh"}, {unicode.Arabic, "ar"},
	{unicode.Devanagari, "hi"}, {unicode.Hebrew, "he"}, {unicode.Greek, "el"}, {unicode.Thai, "th"}, {unicode.Cyrillic, "ru"},
}

const (
	detectBytes = 16 << 10 // of a text are looked at, from its start
	// One language must have this many of the words that are of any, and this many times those of the next one.
	minFunctionWords = 2
	clearlyMore      = 1.4
	// A text of more words than a question must have this many different ones: a variable's name that comes again and again is none.
	questionWords, minDifferent = 24, 3
	// minShare of all words must be function words of the language: lists, tables and programs have few.
	minShare = 0.12
	// minScriptShare of the letters must be of a script; a Japanese text has a tenth of its letters in kana at least.
	minScriptShare, minKanaShare = 0.3, 0.1
)

// DetectLanguage tells the language of a text or of a question as its code, such as "en"; "" where it is not sure.
func DetectLanguage(text string) string {
	if len(text) > detectBytes {
		text = strings.ToValidUTF8(text[:detectBytes], "")
	}
	if language := scriptLanguage(text); language != "" {
		return language
	}
	return wordLanguage(text)
}

func scriptLanguage(text string) string {
	letters, of := 0, map[string]int{}
	for _, r := range text {
		if !unicode.IsLetter(r) {
			continue
		}
		letters++
		if r < utf8.RuneSelf {
			continue
		}
		for _, s := range scripts {
			if unicode.Is(s.table, r) {
				of[s.language]++
				break
			}
		}
	}
	if of["ja"] > 0 && float64(of["ja"]) >= minKanaShare*float64(letters) {
		return "ja"
	}
	for language, n := range of {
		if language != "ja" && float64(n) >= minScriptShare*float64(letters) && n > of["ja"]*10 {
			return language
		}
	}
	return ""
}

// marks are letters and signs that one of the languages has alone.
var marks = map[string]string{"¿": "es", "¡": "es", "ñ": "es", "ß": "de", "ã": "pt", "õ": "pt", "œ": "fr"}

// wordLanguage counts function words, and each mark once. A word of fewer languages tells more.
func wordLanguage(text string) string {
	words, hits, score, different := 0, map[string]int{}, map[string]float64{}, map[string]int{}
	seen := map[string]bool{}
	for mark, l := range marks {
		if strings.Contains(text, mark) {
			hits[l]++
			different[l]++
			score[l]++
		}
	}
	for word := range strings.FieldsFuncSeq(strings.ToLower(fold(text)), func(r rune) bool { return !unicode.IsLetter(r) }) {
		words++
		of := languagesOf[word]
		for _, l := range of {
			hits[l]++
			score[l] += 1 / float64(len(of))
			if !seen[word] {
				different[l]++
			}
		}
		if of != nil {
			seen[word] = true
		}
	}
	best, second := "", 0.0
	for l, s := range score {
		if best == "" || s > score[best] {
			best = l
		}
	}
	for l, s := range score {
		if l != best {
			second = max(second, s)
		}
	}
	if words > questionWords && different[best] < minDifferent {
		return ""
	}
	if hits[best] < minFunctionWords || score[best] < clearlyMore*second || float64(hits[best]) < minShare*float64(words) {
		return ""
	}
	return best
}
