package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/footnote-rag/footnote"

// mayImport is the table of docs/architecture.md: which of our packages each of our packages may import.
var mayImport = map[string][]string{
	"api":                     {"ingest", "retrieval", "store", "workersai", "web"},
	"eval":                    {"retrieval", "store"},
	"ingest":                  {"store", "workersai", "workersai/prompt"},
	"retrieval":               {"store", "workersai", "workersai/prompt"},
	"store":                   {"migrations"},
	"store/storetest":         {"store", "store/storetest/testdb", "migrations"},
	"store/storetest/testdb":  {"embedded", "migrations"},
	"modelhost":               {"workersai"},
	"embedded":                {},
	"workersai":               {},
	"workersai/prompt":        {},
	"workersai/workersaitest": {"workersai"},
	"migrations":              {},
	"web":                     {},
}

// onlyIn names outside packages and the rooms that may import them.
var onlyIn = map[string][]string{
	"github.com/jackc/pgx":             {"store", "store/storetest", "store/storetest/testdb", "ingest"},
	"github.com/pgvector/pgvector-go":  {"store", "store/storetest"},
	"github.com/labstack/echo":         {"api"},
	"github.com/riverqueue/river":      {"ingest"},
	"github.com/testcontainers/testco": {"store/storetest/testdb"},
}

type goPackage struct {
	ImportPath string
	Doc        string
	Standard   bool
	Imports    []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Doc,Imports", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
}

func TestArchitecture(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t) {
		room := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if p.Doc == "" {
			t.Errorf("%s has no package comment", room)
		}
		allowed, known := mayImport[room]
		if !known && !strings.HasPrefix(room, "cmd/") {
			t.Errorf("%s is not in the table of rooms: add it here and to docs/architecture.md", room)
		}
		for _, imp := range p.Imports {
			checkImport(t, room, imp, allowed)
		}
	}
}

func checkImport(t *testing.T, room, imp string, allowed []string) {
	t.Helper()
	if ours, ok := strings.CutPrefix(imp, module+"/"); ok {
		if strings.HasPrefix(ours, "cmd/") {
			t.Errorf("%s imports %s: nothing imports a command", room, ours)
		}
		if !strings.HasPrefix(room, "cmd/") && !slices.Contains(allowed, ours) {
			t.Errorf("%s imports %s: only %v may be imported there", room, ours, allowed)
		}
		return
	}
	for pkg, rooms := range onlyIn {
		if strings.HasPrefix(imp, pkg) && !slices.Contains(rooms, room) {
			t.Errorf("%s imports %s: only %v may", room, imp, rooms)
		}
	}
	if room == "workersai" && strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") {
		t.Errorf("workersai imports %s: it uses the standard library only", imp)
	}
}
