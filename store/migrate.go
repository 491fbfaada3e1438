package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// lockMigrations and the other lock numbers are keys of Postgres advisory locks; any distinct constants do.
const (
	lockMigrations  int64 = 0x666f6f74_0001
	lockSpaces      int64 = 0x666f6f74_0002
	lockMaintenance int64 = 0x666f6f74_0003
)

// minPgvector is the first version that mends HNSW graphs after a vacuum.
var minPgvector = [3]int{0, 8, 4}

type migration struct {
	version  int
	name     string
	sql      string
	checksum string
}

// migrate applies what is missing, each file in a transaction, while holding a session lock that other processes wait for.
func migrate(ctx context.Context, conn *pgx.Conn, files fs.FS) error {
	known, err := readMigrations(files)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", lockMigrations); err != nil {
		return err
	}
	defer func() { _, _ = conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", lockMigrations) }()
	if err := checkPgvectorAvailable(ctx, conn); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `CREATE TABLE IF NOT EXISTS schema_migrations (
		version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`); err != nil {
		return err
	}
	applied, err := appliedMigrations(ctx, conn)
	if err != nil {
		return err
	}
	missing, err := missingMigrations(known, applied)
	if err != nil {
		return err
	}
	for _, m := range missing {
		if err := applyMigration(ctx, conn, m); err != nil {
			return fmt.Errorf("apply migration %s: %w", m.name, err)
		}
	}
	return checkPgvectorVersion(ctx, conn)
}

// readMigrations reads the files by their numbers, which need not be consecutive: a number is taken when work on it begins.
func readMigrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	all := make([]migration, 0, len(names))
	for i, name := range names { // Glob sorts
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.Atoi(number)
		if err != nil || len(number) != 4 || version < 1 || i > 0 && version == all[i-1].version {
			return nil, fmt.Errorf("migration %s: want a name that begins with four digits of its own, like 0001_", name)
		}
		sql, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(sql)
		all = append(all, migration{version, name, string(sql), hex.EncodeToString(sum[:])})
	}
	return all, nil
}

func appliedMigrations(ctx context.Context, conn *pgx.Conn) ([]migration, error) {
	rows, err := conn.Query(ctx, "SELECT version, name, checksum FROM schema_migrations ORDER BY version")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m migration, err error) {
		err = row.Scan(&m.version, &m.name, &m.checksum)
		return m, err
	})
}

// missingMigrations are the known ones that are not applied, in order; one may be older than others that are. It refuses a
// database that a newer or another program has changed.
func missingMigrations(known, applied []migration) ([]migration, error) {
	have := make(map[int]migration, len(applied))
	for _, a := range applied {
		have[a.version] = a
	}
	var missing []migration
	for _, k := range known {
		a, is := have[k.version]
		delete(have, k.version)
		switch {
		case !is:
			missing = append(missing, k)
		case a.checksum != k.checksum:
			return nil, fmt.Errorf("%w: migration %s differs from the one applied (%s): it was written by another version of footnote; use that, or an empty database", ErrIncompatible, k.name, a.name)
		}
	}
	for _, a := range have {
		return nil, fmt.Errorf("%w: its schema has migration %s, which this program does not know: start a newer footnote", ErrIncompatible, a.name)
	}
	return missing, nil
}

func applyMigration(ctx context.Context, conn *pgx.Conn, m migration) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// A file holds several statements, which only the parameterless protocol of PgConn takes.
		if _, err := tx.Conn().PgConn().Exec(ctx, m.sql).ReadAll(); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)", m.version, m.name, m.checksum)
		return err
	})
}

func checkPgvectorAvailable(ctx context.Context, conn *pgx.Conn) error {
	var version *string
	err := conn.QueryRow(ctx, `SELECT coalesce(
		(SELECT extversion FROM pg_extension WHERE extname = 'vector'),
		(SELECT default_version FROM pg_available_extensions WHERE name = 'vector'))`).Scan(&version)
	if err != nil {
		return err
	}
	if version == nil {
		return fmt.Errorf("%w: pgvector is not installed in this Postgres: install pgvector %s or newer", ErrIncompatible, versionText(minPgvector))
	}
	return versionAtLeast(*version)
}

func checkPgvectorVersion(ctx context.Context, conn *pgx.Conn) error {
	var version string
	err := conn.QueryRow(ctx, "SELECT extversion FROM pg_extension WHERE extname = 'vector'").Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%w: the vector extension is not created in this database: run CREATE EXTENSION vector", ErrIncompatible)
	}
	if err != nil {
		return err
	}
	return versionAtLeast(version)
}

func versionAtLeast(version string) error {
	var have [3]int
	for i, part := range strings.SplitN(version, ".", 3) {
		have[i], _ = strconv.Atoi(part)
	}
	for i := range have {
		if have[i] != minPgvector[i] {
			if have[i] > minPgvector[i] {
				return nil
			}
			return fmt.Errorf("%w: pgvector %s is older than %s: install a newer one and run ALTER EXTENSION vector UPDATE", ErrIncompatible, version, versionText(minPgvector))
		}
	}
	return nil
}

func versionText(v [3]int) string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }
