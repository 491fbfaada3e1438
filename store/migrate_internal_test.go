package store

import (
	"errors"
	"slices"
	"testing"
	"testing/fstest"
)

func TestMissingMigrations(t *testing.T) {
	t.Parallel()
	of := func(versions ...int) (all []migration) {
		for _, v := range versions {
			all = append(all, migration{version: v, checksum: "same"})
		}
		return all
	}
	changed := of(1, 2)
	changed[1].checksum = "other"
	for name, c := range map[string]struct {
		known, applied []migration
		want           []int
		err            error
	}{
		"a new database":               {of(1, 3), nil, []int{1, 3}, nil},
		"all applied":                  {of(1, 3), of(1, 3), nil, nil},
		"an older one arrived later":   {of(1, 2, 3), of(1, 3), []int{2}, nil},
		"written by a newer program":   {of(1), of(1, 2), nil, ErrIncompatible},
		"written by another program":   {of(1, 3), of(1, 2, 3), nil, ErrIncompatible},
		"changed after it was applied": {of(1, 2), changed, nil, ErrIncompatible},
	} {
		missing, err := missingMigrations(c.known, c.applied)
		var got []int
		for _, m := range missing {
			got = append(got, m.version)
		}
		if !errors.Is(err, c.err) || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v, want %v, %v", name, got, err, c.want, c.err)
		}
	}
}

func TestReadMigrationsRefusesNames(t *testing.T) {
	t.Parallel()
	for name, files := range map[string][]string{
		"gap": {"0001_a.sql", "0003_b.sql"}, "same number": {"0001_a.sql", "0001_b.sql"}, "no number": {"a.sql"}, "short": {"1_a.sql"},
	} {
		fs := fstest.MapFS{}
		for _, f := range files {
			fs[f] = &fstest.MapFile{}
		}
		if _, err := readMigrations(fs); (err == nil) != (name == "gap") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
