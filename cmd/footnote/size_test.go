package main

import "testing"

func TestParseSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"": 0, "4GiB": 4 << 30, " 1.5 GiB ": 3 << 29, "900MiB": 900 << 20, "2048KiB": 2 << 20, "1048576": 1 << 20} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"0", "-1GiB", "1KiB", "much", "NaN", "InfGiB", "4GB", "GiB", "99999999GiB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestFaultFlag(t *testing.T) {
	t.Parallel()
	for spec, ok := range map[string]bool{"": true, "stream_cut=0.1,429=0.05,seed=7": true, "nonsense": false} {
		if _, err := (modelsServeFlags{rateLimits: "none", faults: spec}).hostConfig(""); (err == nil) != ok {
			t.Errorf("--fault %q: %v", spec, err)
		}
	}
}
