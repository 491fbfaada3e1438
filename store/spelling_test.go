package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCorrections(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	load(t, s, c, "a.md", "The visa for Japan takes days\nThe telescope observes bridges\nvista visa visa\nTables and risks\nTea is steeped in the Café")
	for name, test := range map[string]struct {
		words []string
		want  map[string]string
	}{
		"another letter":             {[]string{"viza"}, map[string]string{"viza": "visa"}},
		"two that changed places":    {[]string{"telescpoe"}, map[string]string{"telescpoe": "telescope"}},
		"one too many, one too few":  {[]string{"visaa", "japn"}, map[string]string{"visaa": "visa", "japn": "japan"}},
		"another form is no mistake": {[]string{"bridge", "observing", "visas"}, map[string]string{}},
		"too far":                    {[]string{"quantum", "teloscpoe"}, map[string]string{}},
		"too short":                  {[]string{"vis"}, map[string]string{}},
		"only a stem is near":        {[]string{"tall", "visk"}, map[string]string{"visk": "visa"}},
		"the form that is written":   {[]string{"steepd", "briidges"}, map[string]string{"steepd": "steeped", "briidges": "bridges"}},
		"accents as written":         {[]string{"cxafe"}, map[string]string{"cxafe": "café"}},
		"no word":                    {[]string{"", "!?", "the"}, map[string]string{}},
		"nothing asked":              {nil, map[string]string{}},
	} {
		got, err := s.Corrections(t.Context(), c, test.words)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
